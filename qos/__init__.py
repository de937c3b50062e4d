"""Quality of service as pure policy, independent of the gateway: no sockets, no clock. The caller passes times in.

`rates` enforces rate limits over all processes that share its memory; `turns` decides which request is next when there
are more requests than capacity; `sessions` admits clients or queues them, by `tickets` that only the gateway can sign.
"""
