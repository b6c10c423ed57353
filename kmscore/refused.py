"""What was asked for and cannot be, in one shape for every room: a code for machines, a sentence for people."""


class Refused(Exception):
    """`code` is for machines, `sentence` (and the text) for people; neither ever holds a value.

    A subclass exists only where a caller has to tell it from the others.
    """

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence
