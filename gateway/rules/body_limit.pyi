from gateway.rules.actions import Step

class LimitBody(Step):
    def __init__(self, body_bytes: int, text: str) -> None: ...
