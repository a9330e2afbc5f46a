from .helpers import deep
