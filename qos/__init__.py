"""Quality of service as pure policy: no socket, no clock, nothing of the gateway. Times are passed in.

`rates` counts requests against rates, over all processes that share its memory; `turns` says which request is next when
there is less room than requests.
"""
