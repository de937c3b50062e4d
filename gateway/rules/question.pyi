from collections.abc import Hashable

class Question:
    key: Hashable

class ProgramQuestion(Question):
    name: str
    command: tuple[str, ...]
    text: bytes
    def __init__(self, name: str, command: tuple[str, ...], text: bytes) -> None: ...

class Unsettled(Exception):
    question: Question
    def __init__(self, question: Question) -> None: ...

class Unanswered(Exception): ...
