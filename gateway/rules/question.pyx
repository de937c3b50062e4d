"""Questions that a decision cannot answer by itself: whether a password fits, what a program says of a key."""


cdef class Question:
    pass


cdef class ProgramQuestion(Question):
    """The answer is bytes, None (there is no value), or a text that says why there is no answer."""

    def __init__(self, str name, tuple command, bytes text):
        self.name = name
        self.command = command
        self.text = text
        self.key = (command, text)


class Unsettled(Exception):
    """The rules need the answer to `question` first."""

    def __init__(self, question):
        super().__init__()
        self.question = question


class Unanswered(Exception):
    """A question has no answer; the text says why."""
