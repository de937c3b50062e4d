from gateway.rules.actions import Step

class LimitBody(Step):
    def __init__(self, body_bytes: int, text: str) -> None: ...

class LimitHead(Step):
    def __init__(self, header_bytes: int, text: str) -> None: ...
