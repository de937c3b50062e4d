"""Quality of service as pure policy: no socket, no clock, nothing of the gateway. Times are passed in.

`rates` counts requests against rates, over all processes that share its memory; `turns` says which request is next when
there is less room than requests; `sessions` says who is in and who waits, by `tickets` that only the gateway can write.
"""
