"""OpenAI's fine-tuning API: chat examples in JSONL, a job as JSON, a script that uploads one and starts the other.

From developers.openai.com/api/docs/guides/supervised-fine-tuning, FineTuneChatRequestInput of OpenAI's published API
description (weight, tools), and openai/openai-python, src/openai/types/fine_tuning/job_create_params.py, as of
2026-08-21.
"""

import json
from typing import Any

from s2l_ray.export.messages import has_thoughts
from s2l_ray.export.trainer import Trainer, Training
from s2l_ray.rows.chat_messages import calls_of, content_of
from s2l_ray.rows.conversation import Conversation, Turn

_MODEL = "gpt-4.1-mini-2025-04-14"
_FILE = "FILE-ID"
_SCRIPT = """#!/bin/sh
# Uploads {data} and starts the job of job.json, whose model you may change. OPENAI_API_KEY must be set.
set -eu
api="${{OPENAI_BASE_URL:-https://api.openai.com/v1}}"
login="Authorization: Bearer $OPENAI_API_KEY"
uploaded=$(curl -sSf "$api/files" -H "$login" -F purpose=fine-tune -F file=@{data})
file=$(printf '%s' "$uploaded" | tr -d '\\n' | sed 's/.*"id" *: *"\\(file-[^"]*\\)".*/\\1/')
sed "s/{file}/$file/" job.json | curl -sSf "$api/fine_tuning/jobs" -H "$login" -H "Content-Type: application/json" -d @-
"""


class OpenAI(Trainer):
    """Messages with ids of calls; an answer with weight 0 is only seen."""

    name = "openai"
    title = "OpenAI's fine-tuning API"
    min_rows = 10
    needs_model = False

    def lacks(self, conversation: Conversation) -> list[str]:
        """Return what a row of its layout cannot say."""
        found = [] if _answers_fit(conversation) else ["tool calls that are not each answered by the turns behind them"]
        return found if _tools(conversation) is not None else [*found, "tools that are not functions with a name"]

    def changes(self, conversation: Conversation) -> list[str]:
        """Return what it leaves out."""
        return ["thoughts have no place and are left out"] if has_thoughts(conversation) else []

    def row(self, conversation: Conversation) -> dict[str, Any]:
        """Return the messages, and the tools where there are any."""
        messages: list[dict[str, Any]] = []
        waiting: list[dict[str, Any]] = []
        for turn in conversation.turns:
            message: dict[str, Any] = {"role": turn.role, "content": content_of(turn)}
            if turn.calls:
                waiting = _with_ids(turn, len(messages))
                message |= {"content": turn.content or None, "tool_calls": waiting}
                waiting = list(waiting)
            elif turn.role == "tool":
                own = next((call for call in waiting if call["function"]["name"] == turn.name), waiting[0])
                waiting.remove(own)
                message["tool_call_id"] = own["id"]
            messages.append(message if turn.is_learned else {**message, "weight": 0})
        return {"messages": messages, **({"tools": _tools(conversation)} if conversation.tools else {})}

    def files(self, training: Training) -> dict[str, str]:
        """Return the job and the script that starts it."""
        epochs = training.target.epochs
        method: dict[str, Any] = {"type": "supervised"}
        if epochs is not None and epochs >= 1:
            method["supervised"] = {"hyperparameters": {"n_epochs": round(epochs)}}
        job = {"model": _MODEL, "training_file": _FILE, "seed": min(training.seed, 2**31 - 1), "method": method}
        script = _SCRIPT.format(data=self.data_file, file=_FILE)
        return {"job.json": json.dumps(job, indent=2) + "\n", "start.sh": script}

    def start(self) -> str:
        """Return its command."""
        return "sh start.sh"


def _with_ids(turn: Turn, place: int) -> list[dict[str, Any]]:
    """Return the calls as the API takes them: with ids, their arguments as JSON text."""
    return [
        {"id": f"call_{place}_{number}", "type": "function", "function": {
            "name": call["function"]["name"],
            "arguments": _as_text(call["function"]["arguments"])}}
        for number, call in enumerate(calls_of(turn))
    ]


def _as_text(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def _answers_fit(conversation: Conversation) -> bool:
    """Tell whether each call has its answer directly behind it, but those that end the conversation."""
    waiting = 0
    for turn in conversation.turns:
        if (turn.role == "tool") != bool(waiting):
            return False
        waiting = waiting - 1 if waiting else len(calls_of(turn))
    return True


def _tools(conversation: Conversation) -> list[dict[str, Any]] | None:
    """Return the tools as the API takes them; None where some are not functions with a name."""
    found = []
    for tool in json.loads(conversation.tools) if conversation.tools else ():
        function = tool.get("function", tool) if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            return None
        found.append({"type": "function", "function": function})
    return found


TRAINER = OpenAI()
