"""Chat templates: the messages of a conversation as the text that a model was trained on.

A template is a program in the language Jinja that comes with a model. It runs in a sandbox, with the settings and
functions that transformers gives it (`transformers.utils.chat_template_utils`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from tfguide.text.packages import import_jinja_sandbox


class ChatTemplate:
    """A chat template, compiled.

    source: the template. tokens: the special tokens that it may name, such as `{"bos_token": "<s>"}`.
    Raises ImportError where jinja2 is not installed, ValueError for a template that is not valid.
    """

    def __init__(self, source: str, tokens: Mapping[str, str] | None = None):
        self.source, self.tokens = source, dict(tokens or {})
        sandbox = import_jinja_sandbox()
        environment = sandbox.ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_generation_tag(), "jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _to_json
        environment.globals.update(raise_exception=_refuse, strftime_now=_now)
        try:
            self._template = environment.from_string(source)
        except Exception as error:  # a syntax error, or a filter that Jinja does not have
            raise ValueError(f"the chat template is not valid: {error}") from error

    def render(
        self, messages: Sequence[Mapping[str, Any]], add_generation_prompt: bool = True, **variables: Any
    ) -> str:
        """The text of messages, each `{"role": ..., "content": ...}`.

        add_generation_prompt: whether the text ends where the assistant begins to answer. variables: what else the
        template reads, such as `tools` or `enable_thinking`. Raises ValueError where the template refuses the messages,
        for example a role that it does not know.
        """
        given = {"tools": None, "documents": None, **self.tokens, **variables}
        try:
            return self._template.render(
                messages=[dict(message) for message in messages], add_generation_prompt=add_generation_prompt, **given
            )
        except Exception as error:  # the program of another author
            raise ValueError(f"the chat template refuses these messages: {error}") from error


def _generation_tag():
    """An extension of Jinja: `{% generation %}`, with which templates mark what the assistant says, changes nothing."""
    from jinja2 import nodes
    from jinja2.ext import Extension

    class Generation(Extension):
        tags = {"generation"}  # noqa: RUF012  as Jinja has it

        def parse(self, parser):
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body).set_lineno(line)

    return Generation


def _to_json(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    """Jinja's own filter escapes the characters of HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _refuse(message):
    raise ValueError(message)


def _now(form):
    return datetime.now().strftime(form)
