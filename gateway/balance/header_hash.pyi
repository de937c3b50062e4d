from gateway.balance.policy import Policy

class HeaderHash(Policy):
    def __init__(self, name: str) -> None: ...
