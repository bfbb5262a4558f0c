# SPDX-License-Identifier: MIT
"""What both dialects have, side by side: requests, what a node sends, and what a client must find in
it (engine-apis: OpenAI and Ollama)."""

import itertools
import json

import wire

numbers = itertools.count(1)


class Dialect:
    def __init__(self, name, stream):
        self.name, self.stream = name, stream
        self.openai = name == "openai"
        self.path = "/v1/chat/completions" if self.openai else "/api/chat"
        self.kind = "application/json"
        if stream:
            self.kind = "text/event-stream" if self.openai else "application/x-ndjson"

    def __repr__(self):
        return f"{self.name}-{'stream' if self.stream else 'whole'}"

    def ask(self, model, text=None, **more):
        """Each with words of its own, by which lab.same() knows it again."""
        text = text or f"question {next(numbers)}"
        return {"model": model, "messages": [{"role": "user", "content": text}],
                "stream": self.stream, **more}

    # --- a node's side --------------------------------------------------------------------

    def _framed(self, document):
        text = json.dumps(document).encode()
        return b"data: " + text + b"\n\n" if self.openai else text + b"\n"

    def piece(self, text):
        """One token of a stream."""
        if self.openai:
            return self._framed({"object": "chat.completion.chunk", "choices": [
                {"index": 0, "delta": {"content": text}, "finish_reason": None}]})
        return self._framed({"model": "raw", "message": {"role": "assistant", "content": text},
                             "done": False})

    def last(self):
        if self.openai:
            return self._framed({"object": "chat.completion.chunk", "choices": [
                {"index": 0, "delta": {}, "finish_reason": "stop"}]}) + b"data: [DONE]\n\n"
        return self._framed({"model": "raw", "message": {"role": "assistant", "content": ""},
                             "done": True, "done_reason": "stop"})

    def whole(self, text):
        message = {"role": "assistant", "content": text}
        if self.openai:
            return json.dumps({"object": "chat.completion", "choices": [
                {"index": 0, "message": message, "finish_reason": "stop"}]}).encode()
        return json.dumps({"model": "raw", "message": message, "done": True,
                           "done_reason": "stop"}).encode()

    def failure(self, text):
        """The error of a node, as the body of an answer."""
        return json.dumps({"error": {"message": text, "type": "api_error", "param": None,
                                     "code": None} if self.openai else text}).encode()

    def failure_event(self, text):
        return self._framed(json.loads(self.failure(text)))

    # --- a client's side ------------------------------------------------------------------

    def documents(self, body):
        """Of a stream; and what was left unfinished behind the last."""
        return wire.events(body) if self.openai else wire.lines(body)

    def error_of(self, document):
        """The message of an error in this dialect's shape; None when it is none."""
        if not isinstance(document, dict) or "error" not in document:
            return None
        error = document["error"]
        if self.openai:
            assert isinstance(error, dict) and error.keys() >= {"message", "type", "param", "code"}
            error = error["message"]
        assert isinstance(error, str) and error, f"no error of {self.name}: {document}"
        return error

    def text(self, answer):
        """What the model said, from a whole and good answer."""
        assert answer.status == 200 and answer.complete, answer
        if not self.stream:
            document = answer.json()
            return (document["choices"][0] if self.openai else document)["message"]["content"]
        found, rest = self.documents(answer.body)
        assert not rest and self.is_last(found[-1]), answer
        return "".join(self.text_of(d) for d in found)

    def is_last(self, document):
        return document == "[DONE]" if self.openai else bool(document.get("done"))

    def text_of(self, document):
        if document == "[DONE]":
            return ""
        if not self.openai:
            return document["message"]["content"]
        choices = document["choices"]
        return (choices[0]["delta"].get("content") or "") if choices else ""


CASES = [Dialect(name, stream) for name in ("openai", "ollama") for stream in (True, False)]
STREAMS = [case for case in CASES if case.stream]
WHOLES = [case for case in CASES if not case.stream]
