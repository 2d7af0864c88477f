"""WebSocket by the `websockets` library: `serve PORTFILE` echoes, `ask URI` talks and checks,
`idle URI` waits to be cut off."""

import asyncio
import os
import sys

import websockets


async def echo(connection):
    async for message in connection:
        await connection.send(message)


async def serve(port_file):
    async with websockets.serve(echo, "127.0.0.1", 0, max_size=None, ping_interval=None) as server:
        port = server.sockets[0].getsockname()[1]
        with open(port_file + ".new", "w") as file:
            file.write(str(port))
        os.rename(port_file + ".new", port_file)
        await asyncio.Future()


async def ask(uri):
    async with websockets.connect(uri, max_size=None) as connection:
        for message in ["hello", "", "\u00fcber", b"\x00\xff" * 10, "x" * 1_000_000]:
            await connection.send(message)
            answer = await asyncio.wait_for(connection.recv(), 20)
            assert answer == message, (len(answer), len(message))
        await asyncio.wait_for(await connection.ping(), 20)
        many = [str(number) for number in range(1000)]
        for message in many:
            await connection.send(message)
        answers = [await asyncio.wait_for(connection.recv(), 20) for _ in many]
        assert answers == many
    print("all well")


async def idle(uri):
    connection = await websockets.connect(uri, ping_interval=None)
    await connection.send("hello")
    assert await connection.recv() == "hello"
    await asyncio.wait_for(connection.wait_closed(), 20)
    print("cut off")


asyncio.run({"serve": serve, "ask": ask, "idle": idle}[sys.argv[1]](sys.argv[2]))
