"""The job of lesson 9: what its run hears from the providers, and what it tells them."""

from dataclasses import dataclass

from replay import OutputType, SignalType

NAMESPACE = "parent_job"


@dataclass
class Job:
    """The input of the workflow: the pay, and for how many seconds providers may claim the job."""

    pay: int
    patience: int


@dataclass
class Offer:
    """An offer of the job: its number, counted from 1, and its pay."""

    number: int
    pay: int


@dataclass
class Claim:
    """A claim: the provider that wants the job, and the number of the offer that it heard."""

    provider: str
    offer: int


#: A provider wants the job.
CLAIM = SignalType(1, Claim)
#: A provider is on its way.
CONFIRM = SignalType(2, Claim)

#: OPEN: who wants it?
OFFERED = OutputType("offered", Offer)
#: CLAIMED: it is yours.
CLAIMED = OutputType("claimed", Claim)
#: A claim is refused.
REFUSED = OutputType("refused", Claim)
#: DONE: a provider has it.
DONE = OutputType("done", Claim)
#: CANCELLED: nobody got it.
CANCELLED = OutputType("cancelled", Offer)
