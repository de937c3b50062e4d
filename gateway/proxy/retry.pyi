from collections.abc import Collection

class Retries:
    def __init__(
        self,
        attempts: int,
        on: Collection[str | int],
        statuses: Collection[int],
        methods: Collection[str],
        budget: float,
    ) -> None: ...
    def adopt(self, before: Retries) -> None: ...
