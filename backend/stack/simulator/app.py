"""The HTTP interface of the simulated provider: chat completions, and the control that scripts them."""

import itertools

import orjson
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from backend.stack.simulator.answers import DONE, ChatRequest, Writer, data_line, error_body
from backend.stack.simulator.behaviours import (
    Answer,
    Behaviour,
    Cut,
    Disconnect,
    ErrorFrame,
    Fault,
    Malformed,
    Plan,
    Script,
    Stall,
    Status,
    explain,
)
from backend.stack.simulator.journal import Journal
from backend.stack.simulator.wire import ClientGoneError, Wire, json_headers

STREAM_HEADERS = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}


class Performance:
    """One behaviour, acted out on one connection. Raises `ClientGoneError`."""

    def __init__(self, wire: Wire, behaviour: Behaviour, script: Script) -> None:
        self._wire = wire
        self._behaviour = behaviour
        self._answer = behaviour if isinstance(behaviour, Answer) else script.answer
        # Taken now: a release that comes after the journal shows the call always reaches it.
        self._released = script.released

    async def run(self, request: ChatRequest, number: int) -> None:
        """Act it out to its end; `number` makes the id of the answer."""
        await self._wire.pause(self._behaviour.latency_seconds)
        match self._behaviour:
            case Disconnect():
                return await self._wire.hang_up()
            case Status() as refusal:
                return await self._refuse(refusal)
            case Stall(before_headers=True):
                await self._wire.until(self._released)
        writer = Writer(request, self._answer, number)
        return await (self._stream(writer) if request.stream else self._plain(writer.completion()))

    async def _refuse(self, refusal: Status) -> None:
        body = error_body(refusal.status, refusal.message, refusal.code)
        retry = {} if refusal.retry_after is None else {"retry-after": refusal.retry_after}
        await self._wire.reply(refusal.status, body, retry)

    async def _plain(self, body: bytes) -> None:
        match self._behaviour:
            case Malformed(body=text):
                await self._wire.reply(200, text.encode())
            case ErrorFrame(message=message, code=code):
                await self._wire.reply(200, error_body(500, message, code))
            case Cut():
                await self._wire.start(200, json_headers(body))
                await self._wire.write(body[: len(body) // 2])
                await self._wire.hang_up()
            case Stall(after_headers=True):
                await self._wire.start(200, json_headers(body))
                await self._wire.until(self._released)
                await self._wire.write(body, last=True)
            case _:
                await self._wire.reply(200, body)

    async def _stream(self, writer: Writer) -> None:
        fault_at = self._behaviour.after_chunks if isinstance(self._behaviour, Fault) else 0
        pieces = writer.pieces(at_least=fault_at)
        await self._wire.start(200, STREAM_HEADERS)
        await self._wire.write(writer.opening())
        await self._speak(writer, pieces[:fault_at])
        if await self._ends_here():
            return
        await self._speak(writer, pieces[fault_at:])
        await self._wire.write(writer.closing(), last=True)

    async def _speak(self, writer: Writer, pieces: list[str]) -> None:
        for piece in pieces:
            await self._wire.pause(self._answer.chunk_delay_seconds)
            await self._wire.write(writer.piece(piece))

    async def _ends_here(self) -> bool:
        """Act out the fault of a stream; true if the stream does not go on after it.

        After a malformed line it goes on, and after an error comes the end marker, as some servers have it: a
        gateway that overlooks either takes the answer for complete.
        """
        match self._behaviour:
            case Cut():
                await self._wire.hang_up()
                return True
            case ErrorFrame(message=message, code=code):
                await self._wire.write(data_line(error_body(500, message, code)) + DONE, last=True)
                return True
            case Malformed(body=text):
                await self._wire.write(data_line(text.encode()))
            case Stall(before_headers=False):
                await self._wire.until(self._released)
        return False


class Simulator:
    """The scripts and the journal of one process."""

    def __init__(self) -> None:
        self._scripts: dict[str, Script] = {}
        self._unscripted = Script(Plan())
        self._journal = Journal()
        self._numbers = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one chat completion, as a bare ASGI app: this is the path that carries load tests."""
        wire = Wire(scope, receive, send)
        try:
            body = await wire.body()
            request = ChatRequest.model_validate_json(body)
        except ClientGoneError:
            return
        except ValidationError as error:
            await wire.reply(400, error_body(400, explain(error), "invalid_request"))
            return
        script = self._scripts.get(request.model, self._unscripted)
        behaviour = script.take()
        call = self._journal.record(request.model, scope["headers"], body, behaviour.kind)
        try:
            await Performance(wire, behaviour, script).run(request, next(self._numbers))
            call.state = "answered"
        except ClientGoneError:
            call.state = "client_gone"

    async def put_model(self, request: Request) -> Response:
        """Set the plan of a model: 204, or 422 with what is wrong."""
        try:
            plan = Plan.model_validate_json(await request.body())
        except ValidationError as error:
            return _json(error_body(422, explain(error), "invalid_script"), 422)
        model = request.path_params["model"]
        if model in self._scripts:
            self._scripts[model].replace(plan)
        else:
            self._scripts[model] = Script(plan)
        return Response(status_code=204)

    async def release(self, request: Request) -> Response:
        """Let the stalled calls of a model answer: 204, or 404 if nobody ever scripted it."""
        model = request.path_params["model"]
        if model not in self._scripts:
            message = f"No script was ever put for {model!r}, so none of its calls can stall."
            return _json(error_body(404, message, "unknown_model"), 404)
        self._scripts[model].release()
        return Response(status_code=204)

    async def show_journal(self, request: Request) -> Response:
        """Give the calls of one model, or of all."""
        calls = self._journal.calls(request.query_params.get("model"))
        return _json(orjson.dumps({"calls": [call.view() for call in calls]}))

    async def clear_journal(self, request: Request) -> Response:
        """Forget the calls of one model, or of all: 204."""
        self._journal.forget(request.query_params.get("model"))
        return Response(status_code=204)


async def health(_request: Request) -> Response:
    """Say that the process answers."""
    return _json(b'{"status":"ok"}')


def create_app() -> Router:
    """Build the app. It is a bare router, without the middleware of `Starlette`: cheap per request."""
    simulator = Simulator()
    return Router(
        [
            Route("/v1/chat/completions", simulator, methods=["POST"]),
            Route("/_control/models/{model:path}/release", simulator.release, methods=["POST"]),
            Route("/_control/models/{model:path}", simulator.put_model, methods=["PUT"]),
            Route("/_control/journal", simulator.show_journal, methods=["GET"]),
            Route("/_control/journal", simulator.clear_journal, methods=["DELETE"]),
            Route("/_control/health", health, methods=["GET"]),
        ]
    )


def _json(body: bytes, status: int = 200) -> Response:
    return Response(body, status, media_type="application/json")
