"""Strangers' servers as a client meets them: their answers are bytes that nobody has read or unpacked yet."""

import httpx


class Network(httpx.MockTransport):
    """``httpx.MockTransport``, whose answers with ``content`` would come as read already."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await super().handle_async_request(request)
        if not answer.is_stream_consumed:
            return answer
        return httpx.Response(answer.status_code, headers=answer.headers, stream=httpx.ByteStream(answer.content))
