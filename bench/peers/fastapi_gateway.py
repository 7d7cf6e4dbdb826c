"""A straightforward gateway: FastAPI, one WebSocket per conversation, and the OpenAI SDK's typed stream."""

from __future__ import annotations

import asyncio
import os
import socket

import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from openai import AsyncOpenAI

app = FastAPI()
client = AsyncOpenAI(base_url=os.environ["OPENAI_BASE_URL"], api_key="bench")


@app.websocket("/ws")
async def chat(websocket: WebSocket) -> None:
    """Answer requests one after another, as JSON frames with text."""
    await websocket.accept()
    try:
        while True:
            asked = await websocket.receive_json()
            request = client.chat.completions.create(
                model=asked["model"], messages=[{"role": "user", "content": asked["input"]}], stream=True
            )
            async with await request as stream:  # closes it also if the client leaves
                async for chunk in stream:
                    if chunk.choices and chunk.choices[0].delta.content:
                        await websocket.send_json({"type": "turn.delta", "text": chunk.choices[0].delta.content})
            await websocket.send_json({"type": "done"})
    except WebSocketDisconnect:
        pass


async def _serve() -> None:
    listening = socket.create_server(("127.0.0.1", 0), backlog=2048)
    print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
    config = uvicorn.Config(app, log_level="critical", ws_ping_interval=None)
    await uvicorn.Server(config).serve(sockets=[listening])


if __name__ == "__main__":
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as starter:
        starter.run(_serve())
