from gateway.balance.policy import Policy

class ByKey(Policy):
    def __init__(self, kind: str, name: str = "") -> None: ...
