"""The stand-in's sessions over WebSockets: OpenAI's Realtime and Responses APIs, and Gemini Live.

Each answer costs more than the one before, because the conversation is read anew. `Received.bills` has what was told of it.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Set
from typing import Any, Final

from aiohttp import WSMsgType, web

from tollhouse.demo import standin_answers as answers
from tollhouse.demo import standin_responses as responses
from tollhouse.demo.standin_book import Received
from tollhouse.demo.standin_script import Behaviour, ScriptedReply

_SUBPROTOCOLS: Final = ("realtime", "openai-beta.realtime-v1")
_GEMINI: Final = "/ws/google."
_KINDS: Final = {
    WSMsgType.TEXT: "text",
    WSMsgType.BINARY: "binary",
    WSMsgType.PING: "ping",
    WSMsgType.PONG: "pong",
    WSMsgType.CLOSE: "close",
}
_VERTEX: Final = ".LlmBidiService/"


class SocketTalk:
    """One session. ``changed`` is called when the book has changed."""

    def __init__(
        self, received: Received, behaviour: Behaviour, changed: Callable[[], None]
    ) -> None:
        self._received = received
        self._behaviour = behaviour
        self._changed = changed
        self._sent = 0
        self._answers = 0
        self._model = ""
        self._session: dict[str, Any] = {}
        self._writes_only = False
        self.cut = False

    def refused(self, keys: Set[str]) -> ScriptedReply | None:
        """The answer to a handshake without one of ``keys``."""
        received = self._received
        is_gemini = received.target.startswith(_GEMINI)
        credential = received.get("x-goog-api-key" if is_gemini else "authorization")
        credential = (
            credential
            or received.get("api-key")
            or (is_gemini and received.get("authorization"))
            or ""
        )
        if credential.removeprefix("Bearer ") in keys:
            return None
        headers = [("content-type", "application/json")]
        return ScriptedReply(401, headers, answers.wrong_key(credential))

    async def run(self, request: web.BaseRequest) -> web.WebSocketResponse:
        path, _, query = self._received.target.partition("?")
        socket = web.WebSocketResponse(
            protocols=_SUBPROTOCOLS, max_msg_size=1 << 28, autoping=False, compress=True
        )
        await socket.prepare(request)
        if self._behaviour.frames is not None and request.transport is not None:
            request.transport.write(self._behaviour.frames)
        else:
            for part in query.split("&"):
                name, _, value = part.partition("=")
                if name in ("model", "deployment"):
                    self._model = value
            if path.endswith("/realtime"):
                self._writes_only = "intent=transcription" in query.split("&")
                await self._realtime_began(socket)
        await self._read(socket, path)
        return socket

    async def _read(self, socket: web.WebSocketResponse, path: str) -> None:
        try:
            while (message := await socket.receive()).type in _KINDS:
                closes = message.type is WSMsgType.CLOSE
                data = (message.extra if closes else message.data) or b""
                data = data.encode() if isinstance(data, str) else bytes(data)
                self._received.came.append((_KINDS[message.type], data))
                if closes:
                    break
                if message.type is WSMsgType.PING:
                    await socket.pong(data)
                if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                    continue
                self._received.messages.append(data)
                self._changed()
                if self._behaviour.frames is not None:
                    continue
                document = json.loads(data)
                if path.endswith("/realtime"):
                    await self._realtime(socket, document)
                elif path.endswith("/responses"):
                    await self._response(socket, document)
                else:
                    await self._live(socket, document)
        except _Cut:
            self.cut = True
        except ConnectionError:
            pass
        self._received.close_code = socket.close_code
        self._changed()

    async def _send(
        self, socket: web.WebSocketResponse, event: dict[str, Any], *, binary: bool = False
    ) -> None:
        behaviour = self._behaviour
        data = json.dumps(event)
        await behaviour.passed(self._sent, data.encode())
        if self._sent == behaviour.cut_after:
            raise _Cut
        self._sent += 1
        self._received.sent.append(time.monotonic())
        if binary:
            await socket.send_bytes(data.encode())
        else:
            await socket.send_str(data)

    # The Realtime API.

    async def _realtime_began(self, socket: web.WebSocketResponse) -> None:
        self._session = {
            "type": "realtime",
            "object": "realtime.session",
            "id": f"sess_{self._received.number}",
            "model": self._model,
            "output_modalities": ["audio"],
            "instructions": "",
            "tools": [],
            "max_output_tokens": "inf",
            "audio": {
                "input": {
                    "format": {"type": "audio/pcm", "rate": 24000},
                    "turn_detection": {"type": "server_vad", "create_response": True},
                    "transcription": None,
                }
            },
        }
        if self._writes_only:
            self._session = {
                "type": "transcription",
                "object": "realtime.transcription_session",
                "id": self._session["id"],
                "audio": {"input": {**self._session["audio"]["input"]}},
            }
        await self._event(socket, "session.created", session=self._session)

    async def _event(self, socket: web.WebSocketResponse, kind: str, **members: Any) -> None:
        event = {"type": kind, "event_id": f"event_{self._sent}", **members}
        await self._send(socket, event)

    async def _realtime(self, socket: web.WebSocketResponse, event: dict[str, Any]) -> None:
        kind = event.get("type")
        if kind == "session.update":
            for name, value in event["session"].items():
                if name == "audio":
                    for side, settings in value.items():
                        self._session["audio"].setdefault(side, {}).update(settings)
                else:
                    self._session[name] = value
            await self._event(socket, "session.updated", session=self._session)
        elif kind == "transcription_session.update":
            # That of the API's beta.
            self._session["audio"]["input"]["transcription"] = event["session"][
                "input_audio_transcription"
            ]
            await self._event(socket, "transcription_session.updated", session=event["session"])
        elif kind == "conversation.item.create":
            await self._event(socket, "conversation.item.added", item=event["item"])
        elif kind == "input_audio_buffer.commit":
            item = f"item_heard_{self._sent}"
            await self._event(socket, "input_audio_buffer.committed", item_id=item)
            writer = (self._session["audio"]["input"].get("transcription") or {}).get("model")
            if writer:
                usage = {
                    "type": "tokens",
                    "input_tokens": 20,
                    "output_tokens": 5,
                    "total_tokens": 25,
                    "input_token_details": {"text_tokens": 0, "audio_tokens": 20},
                }
                if "whisper" in writer:
                    usage = {"type": "duration", "seconds": 7.5}
                name = "conversation.item.input_audio_transcription"
                place = {"item_id": item, "content_index": 0}
                await self._event(socket, f"{name}.delta", delta="hel", **place)
                self._received.bills.append({"model": writer, **usage})
                await self._event(
                    socket,
                    f"{name}.completed",
                    item_id=item,
                    content_index=0,
                    transcript="hello",
                    usage=usage,
                )
            detects = self._session["audio"]["input"].get("turn_detection") is not None
            if detects and not self._writes_only:
                await self._realtime_answer(socket)
        elif kind == "response.create" and "voice" in event.get("response", ()):
            await self._realtime_error(socket, "unknown_parameter", event)
        elif kind == "response.create":
            await self._realtime_answer(socket)
        elif kind == "conversation.item.delete":
            await self._realtime_error(socket, "item_delete_invalid_item_id", event)

    async def _realtime_error(
        self, socket: web.WebSocketResponse, code: str, about: dict[str, Any]
    ) -> None:
        error = {"type": "invalid_request_error", "code": code, "message": "It can't be done."}
        await self._event(socket, "error", error={**error, "event_id": about.get("event_id")})

    async def _realtime_answer(self, socket: web.WebSocketResponse) -> None:
        self._answers += 1
        number = self._answers
        response: dict[str, Any] = {
            "object": "realtime.response",
            "id": f"resp_{self._received.number}_{number}",
            "conversation_id": "conv_1",
            "status": "in_progress",
            "output": [],
            "usage": None,
        }
        await self._event(socket, "response.created", response=response)
        place = {
            "response_id": response["id"],
            "item_id": f"item_{number}",
            "output_index": 0,
            "content_index": 0,
        }
        words = (self._behaviour.text or "Hello from the stand-in").split(" ")
        for word in words:
            await self._event(
                socket, "response.output_audio_transcript.delta", delta=word + " ", **place
            )
        sound = base64.b64encode(bytes(4800)).decode()
        await self._event(socket, "response.output_audio.delta", delta=sound, **place)
        usage = {
            "total_tokens": 160 * number,
            "input_tokens": 100 * number,
            "output_tokens": 60 * number,
            "input_token_details": {
                "text_tokens": 30 * number,
                "audio_tokens": 70 * number,
                "image_tokens": 0,
                "cached_tokens": 20 * (number - 1),
                "cached_tokens_details": {
                    "text_tokens": 10 * (number - 1),
                    "audio_tokens": 10 * (number - 1),
                    "image_tokens": 0,
                },
            },
            "output_token_details": {"text_tokens": 15 * number, "audio_tokens": 45 * number},
        }
        done = {**response, "status": "completed"}
        if self._behaviour.usage:
            done["usage"] = usage
            self._received.bills.append({"model": self._model, **usage})
        await self._event(socket, "response.done", response=done)

    # The Responses API.

    async def _response(self, socket: web.WebSocketResponse, event: dict[str, Any]) -> None:
        if event.get("type") != "response.create":
            error = {"type": "invalid_request_error", "message": "Unknown event."}
            await self._send(socket, {"type": "error", "status": 400, "error": error})
            return
        lane = {"stream_id": event["stream_id"]} if "stream_id" in event else {}
        # The events are those of HTTP, and a warm-up (``generate``) has no output.
        text = "" if event.get("generate") is False else self._behaviour.text
        frames = responses.frames(event, text, usage=self._behaviour.usage, done=True)
        breaks, pieces = event.get("metadata") == {"standin": "break"}, 0
        for number, frame in enumerate(frames):
            told = json.loads(frame.decode().partition("data: ")[2])
            pieces += told["type"] == "response.output_text.delta"
            if breaks and pieces == 3:
                # It fails in the middle, and what was worked on is billed.
                read = responses.input_tokens(event)
                bill = {"model": event.get("model"), "input_tokens": read, "output_tokens": pieces}
                self._received.bills.append(bill)
                error = {"type": "server_error", "code": "server_error", "message": "It broke."}
                await self._send(socket, {"type": "error", "status": 500, "error": error, **lane})
                return
            response = told.get("response")
            if isinstance(response, dict):
                # One is behind the other, so that each has an id of its own.
                response["id"] = f"resp_{self._received.number}_{len(self._received.bills)}"
                if response.get("usage"):
                    bill = {"model": response.get("model"), **response["usage"]}
                    self._received.bills.append(bill)
            await self._send(socket, {**told, "sequence_number": number, **lane})

    # Gemini Live: JSON in binary frames.

    async def _live(self, socket: web.WebSocketResponse, message: dict[str, Any]) -> None:
        if "setup" in message:
            self._model = message["setup"]["model"]
            await self._send(socket, {"setupComplete": {"sessionId": "s1"}}, binary=True)
            return
        # Either spelling is Google's: the SDK's are those of Python.
        plain = {name.replace("_", "").lower(): value for name, value in message.items()}
        given = plain.get("clientcontent") or plain.get("realtimeinput") or {}
        names = {name.replace("_", "").lower() for name, value in given.items() if value}
        if not names & {"turncomplete", "text", "audiostreamend"}:
            return
        self._answers += 1
        number = self._answers
        words = (self._behaviour.text or "Hello from the stand-in").split(" ")
        for word in words:
            turn = {"role": "model", "parts": [{"text": word + " "}]}
            usage = {"promptTokenCount": 40 * number, "totalTokenCount": 40 * number}
            part = {"serverContent": {"modelTurn": turn}, "usageMetadata": usage}
            await self._send(socket, part, binary=True)
        usage_metadata = {
            "promptTokenCount": 40 * number,
            "responseTokenCount": 30 * number,
            "totalTokenCount": 70 * number,
            "promptTokensDetails": [
                {"modality": "TEXT", "tokenCount": 10 * number},
                {"modality": "AUDIO", "tokenCount": 30 * number},
            ],
            "responseTokensDetails": [{"modality": "AUDIO", "tokenCount": 30 * number}],
        }
        if _VERTEX in self._received.target:
            other = {
                "responseTokenCount": "candidatesTokenCount",
                "responseTokensDetails": "candidatesTokensDetails",
            }
            usage_metadata = {other.get(name, name): n for name, n in usage_metadata.items()}
        last: dict[str, Any] = {"serverContent": {"turnComplete": True}}
        if self._behaviour.usage:
            last["usageMetadata"] = usage_metadata
            self._received.bills.append({"model": self._model, **usage_metadata})
        await self._send(socket, last, binary=True)


class _Cut(Exception):
    """The connection is to be broken here."""
