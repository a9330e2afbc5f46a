"""The shop's web service: ``uvicorn web:app``.  It starts runs, and the workers run them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import FastAPI, HTTPException, Path, Request, Response
from fastapi.responses import JSONResponse
from orders import APPROVE, URL, Order, order

import replay
from replay.query import UnknownRun

Number = Annotated[str, Path(pattern=r"^[a-z0-9-]{1,40}$")]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    with replay.connect(URL, loops=False) as client:  # in each process of uvicorn's, after its fork
        app.state.client = client
        yield


app = FastAPI(lifespan=lifespan)


@app.exception_handler(replay.Unavailable)
def unavailable(request: Request, error: replay.Unavailable) -> Response:
    return JSONResponse({"detail": "try again later"}, status_code=503)


@app.put("/orders/{number}", status_code=201)
def start(number: Number, body: Order, response: Response) -> None:
    if not app.state.client.run_workflow("shop", order, number, body):
        response.status_code = 200  # it was started before: a repeated call changes nothing


@app.post("/orders/{number}/approval", status_code=202)
def approve(number: Number, by: str) -> None:
    app.state.client.signal_run("shop", order, number, APPROVE, by, external_id="approval")


@app.get("/orders/{number}")
def show(number: Number) -> dict[str, str | None]:
    try:
        run = app.state.client.describe("shop", order, number)
    except UnknownRun:
        raise HTTPException(404) from None
    return {"status": run.status, "result": run.result, "error": run.error}
