"""The grammar of the filter language: text to tree, by recursive descent (ACC-19 to ACC-29).

The grammar of each production is the docstring of the function that parses it. Keywords, functions, fields
and `$user` are read without regard to case.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from services.access.filter import mistakes
from services.access.filter.faults import Edit, FilterError
from services.access.filter.fields import FIELD_BY_NAME, FUNCTIONS, Field, Function, Kind, Operator
from services.access.filter.literals import Asked, bare, literal
from services.access.filter.mistakes import FUNCTIONS_BY_NAME, KEYWORDS, OPERATOR_WORDS, Stop
from services.access.filter.tokens import Kind as TokenKind
from services.access.filter.tokens import Token, tokens
from services.access.filter.tree import And, Bound, Constant, Expression, Literal, Not, Or, Predicate, Span

MAX_CHARACTERS = 4096
"""Of a filter, without the items of lists of facilities, for a group has hundreds, and without ids."""
MAX_CHARACTERS_IN_ALL = 262_144
"""Together with these."""
MAX_FACILITIES = 2000
"""Items of lists of facilities: more than a group has, and read in some 50 ms."""
MAX_DEPTH = 64
"""Each parenthesis and each `not` is a level."""
MAX_NODES = 200
"""Predicates and connectives."""
MAX_ITEMS = 50
"""Of a list, unless it is one of facilities."""
_MAX_REPAIRS = 16

_COMPARISONS: Mapping[str, tuple[Operator, bool]] = {
    "=": (Operator.EQ, False),
    "!=": (Operator.EQ, True),
    "<>": (Operator.EQ, True),
    "<": (Operator.LT, False),
    "<=": (Operator.LE, False),
    ">": (Operator.GT, False),
    ">=": (Operator.GE, False),
}
"""The signs of comparison: what each asks, and whether it asks the contrary."""

_TURNED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
"""What a comparison becomes when its sides change places."""


def parse(text: str, *, is_of_group: bool, stored: bool = False) -> Expression:
    """The tree of a filter.

    Args:
        text: the filter.
        is_of_group: whether who is shown the cases is answered the group's projection of the reading. For
            others what only the group knows of is unknown, and no message names it (A59).
        stored: whether users and facilities may also be named as they are stored, `'#<id>'`.

    Raises:
        FilterError: with the place of the first fault, and the filter repaired if that is obvious.
    """
    try:
        return _Parser(text, is_of_group, stored).filter()
    except FilterError as fault:
        fault.repaired = _repair(fault, is_of_group, stored)
        raise


def _repair(fault: FilterError, is_of_group: bool, stored: bool) -> str | None:
    """The filter without this fault and those behind it; None if one of them has no obvious repair."""
    for _ in range(_MAX_REPAIRS):
        attempts = [edit.applied(fault.text) for edit in fault.edits]
        if not attempts or len(attempts[0]) > MAX_CHARACTERS:
            return None
        try:
            trees = [_Parser(attempt, is_of_group, stored).filter() for attempt in attempts]
        except FilterError as next_fault:
            if len(attempts) > 1:
                return None
            fault = next_fault
        else:
            return attempts[0] if len({flat(tree) for tree in trees}) == 1 else None
    return None


def flat(expression: Expression) -> Expression:
    """The same filter without parentheses that change nothing."""
    if isinstance(expression, Not):
        return Not(flat(expression.term))
    if not isinstance(expression, And | Or):
        return expression
    kind = type(expression)
    terms: list[Expression] = []
    for term in map(flat, expression.terms):
        terms += term.terms if isinstance(term, kind) else (term,)
    return kind(tuple(terms))


class Operand(NamedTuple):
    """What something is asked of: a field, as it is written, and what is done to it before."""

    field: Field
    written: str
    function: Function


class _Parser:
    """Reads one filter, one token ahead."""

    def __init__(self, text: str, is_of_group: bool, stored: bool) -> None:
        self._text = text
        self._is_of_group = is_of_group
        self._stored = stored
        self._before: Token | None = None
        self._nodes = 0
        self._depth = 0
        self._joined: set[str] = set()  # the connectives between these parentheses so far
        self._uncounted = 0  # characters of lists of facilities, and of ids
        # What is too long in any case is not read at all.
        may_be_longer = Kind.FACILITY.value in text.lower() or (stored and "'#" in text)
        if len(text) > (MAX_CHARACTERS_IN_ALL if may_be_longer else MAX_CHARACTERS):
            raise self._too_long()
        self._tokens = tokens(text)
        self._token = next(self._tokens)

    # Productions

    def filter(self) -> Expression:
        """filter := or END"""
        if self._at(TokenKind.END):
            raise self._stop.fault("the filter is empty", "`false` hides everything")
        found = self._or()
        if self._is_sign(")"):
            span = self._token.span
            pairs = Edit(span, ""), Edit(Span(0, 0), "(")
            raise self._unbalanced(span, "this parenthesis closes none that is open", *pairs)
        if not self._at(TokenKind.END):
            raise mistakes.leftover(self._stop, "`and`, `or` or the end")
        if len(self._text) - self._uncounted > MAX_CHARACTERS:
            raise self._too_long()
        return found

    def _or(self) -> Expression:
        """or := and ("or" and)*"""
        terms = [self._and()]
        while self._takes("or"):
            self._node()
            self._joined.add("or")
            terms.append(self._and())
        return Or(tuple(terms), _around(terms)) if len(terms) > 1 else terms[0]

    def _and(self) -> Expression:
        """and := not ("and" not)*"""
        terms = [self._not()]
        while self._takes("and"):
            self._node()
            self._joined.add("and")
            terms.append(self._not())
        return And(tuple(terms), _around(terms)) if len(terms) > 1 else terms[0]

    def _not(self) -> Expression:
        """not := "not" not | group | pred"""
        if self._is_sign("("):
            return self._group()
        opening = self._token.span
        if not self._takes("not"):
            return self._predicate()
        self._node()
        self._deeper(opening)
        term = self._not()
        self._depth -= 1
        return Not(term, Span(opening.start, self._stop.end))

    def _group(self) -> Expression:
        """group := "(" or ")" """
        opening = self._advance().span
        self._deeper(opening)
        outside, self._joined = self._joined, set()
        found = self._or()
        if self._at(TokenKind.END):
            pairs = self._stop.missing(")"), Edit(opening, "")
            raise self._unbalanced(opening, "this parenthesis is never closed", *pairs)
        if not self._is_sign(")"):
            raise mistakes.leftover(self._stop, "`and`, `or` or `)`")
        self._advance()
        self._depth -= 1
        self._joined = outside
        return found

    def _predicate(self) -> Expression:
        """pred := "true" | "false" | turned | operand asked"""
        self._node()
        span = self._token.span
        for word, value in (("true", True), ("false", False)):
            if self._takes(word):
                return Constant(value, span)
        if self._at(TokenKind.TEXT, TokenKind.NUMBER):
            return self._turned()
        return self._asked(span.start, self._operand())

    def _turned(self) -> Predicate:
        """turned := literal cmp operand; it becomes operand cmp literal"""
        value = self._advance()
        sign = self._token
        if not self._at(TokenKind.SIGN) or sign.text not in _COMPARISONS:
            raise self._stop.fault(self._stop.found, "a value is compared to a field with `=`, `<` …")
        self._advance()
        if self._at(TokenKind.TEXT, TokenKind.NUMBER):
            raise self._stop.fault("two values are compared", "one side of a comparison is a field")
        operand = self._operand()
        operator, negated = _COMPARISONS[_TURNED.get(sign.text, sign.text)]
        asked = self._may_ask(operand, operator, sign)
        found = literal(self._text, value, asked), value.span
        return self._made(value.span.start, asked, negated, [found])

    def _operand(self) -> Operand:
        """operand := field | ("upper" | "lower" | "plain" | "age") "(" field ")" """
        if not self._at(TokenKind.WORD) or self._token.text in KEYWORDS:
            raise mistakes.no_operand(self._stop)
        word = self._advance()
        if not self._is_sign("("):
            return Operand(self._field(word), self._stop.written(word.span), Function.NONE)
        function = FUNCTIONS_BY_NAME.get(word.text)
        if function is None:
            raise mistakes.no_function(self._stop, word)
        self._advance()
        if not self._at(TokenKind.WORD):
            raise self._stop.fault(self._stop.found, f"`{function}()` takes a field")
        word_of_field = self._advance()
        field = self._field(word_of_field)
        if not self._is_sign(")"):
            raise self._stop.fault(self._stop.found, f"`{function}(` is not closed", self._stop.missing(")"))
        self._advance()
        if function not in FUNCTIONS.get(field.kind, ()):
            raise mistakes.no_function_of(self._stop, word, function, field)
        return Operand(field, self._stop.written(word_of_field.span), function)

    def _field(self, word: Token) -> Field:
        """field := a keyword or alias of FIELDS"""
        found = FIELD_BY_NAME.get(word.text)
        if found is None or (found.of_group and not self._is_of_group):
            raise mistakes.no_field(self._stop, word, is_of_group=self._is_of_group)
        return found

    def _asked(self, start: int, operand: Operand) -> Predicate:
        """asked := cmp literal | null | ["not"] (word literal | "in" list | "between" range)

        cmp := "=" | "!=" | "<>" | "<" | "<=" | ">" | ">="
        word := "like" | "contains" | "startswith"
        """
        if self._at(TokenKind.WORD) and self._token.text == "is":
            return self._null(start, operand)
        negation, negated = self._token, self._takes("not")
        word = self._token
        if self._at(TokenKind.SIGN) and word.text in _COMPARISONS:
            if negated:
                raise mistakes.not_before_sign(self._stop, negation)
            operator, negated = _COMPARISONS[word.text]
        elif self._at(TokenKind.WORD) and word.text in OPERATOR_WORDS:
            operator = OPERATOR_WORDS[word.text]
        else:
            raise mistakes.no_operator(self._stop)
        asked = self._may_ask(operand, operator, word)
        self._advance()
        if operator is Operator.IN:
            found = self._list(asked)
        elif operator is Operator.BETWEEN:
            found = self._range(asked)
        else:
            found = [self._literal(asked, word)]
        return self._made(start, asked, negated, found)

    def _null(self, start: int, operand: Operand) -> Predicate:
        """null := "is" ["not"] "null" """
        word = self._advance()
        negated = self._takes("not")
        if not self._takes("null"):
            raise mistakes.not_null(self._stop, word, negated)
        return self._made(start, self._may_ask(operand, Operator.IS_NULL, word), negated, [])

    def _range(self, asked: Asked) -> list[tuple[Literal, Span]]:
        """range := literal "and" literal"""
        first = self._literal(asked, self._token)
        word = self._token
        if not self._takes("and"):
            raise self._stop.fault(self._stop.found, "write `and` and the other end of the range")
        return [first, self._literal(asked, word)]

    def _list(self, asked: Asked) -> list[tuple[Literal, Span]]:
        """list := "(" literal ("," literal)* ")" """
        opening = self._token
        if not self._is_sign("("):
            raise self._unwrapped()
        self._advance()
        if self._is_sign(")"):
            raise self._stop.fault("the list is empty", "write `false` for what never holds")
        found = [self._literal(asked, opening)]
        while self._is_sign(","):
            comma = self._advance()
            if self._is_sign(")"):
                drop = Edit(comma.span, "")
                raise FilterError(self._text, comma.span, "no value follows this `,`", "leave it out", drop)
            found.append(self._literal(asked, comma))
            most = MAX_FACILITIES if asked.field.kind is Kind.FACILITY else MAX_ITEMS
            if len(found) > most:
                problem = f"a list has at most {most:,} values"
                raise FilterError(self._text, found[-1][1], problem, "join two lists with `or`")
        if self._at(TokenKind.END):
            close = self._stop.missing(")")
            raise FilterError(self._text, opening.span, "this parenthesis is never closed", "", close)
        if not self._is_sign(")"):
            raise mistakes.leftover(self._stop, "`,` or `)`")
        self._advance()
        if asked.field.kind is Kind.FACILITY:
            self._uncounted += found[-1][1].end - found[0][1].start
        return found

    def _literal(self, asked: Asked, before: Token) -> tuple[Literal, Span]:
        """literal := text | number"""
        if not self._at(TokenKind.TEXT, TokenKind.NUMBER):
            raise mistakes.no_literal(self._stop, asked, before)
        # A number that letters or signs follow is a text without its quotes, as in `18Y` or `2026-11-21`.
        whole = mistakes.bare_value(self._stop)
        if self._at(TokenKind.NUMBER) and whole.end > self._token.span.end:
            raise bare(self._text, whole, asked)
        token = self._advance()
        found = literal(self._text, token, asked)
        # An id is longer than the name for which it stands, and of a list of facilities nothing counts.
        if isinstance(found, Bound) and (asked.operator, asked.field.kind) != (Operator.IN, Kind.FACILITY):
            self._uncounted += token.span.end - token.span.start
        return found, token.span

    # The state of reading

    @property
    def _stop(self) -> Stop:
        return Stop(self._text, self._before, self._token)

    def _at(self, *kinds: TokenKind) -> bool:
        return self._token.kind in kinds

    def _is_sign(self, sign: str) -> bool:
        return self._token.kind is TokenKind.SIGN and self._token.text == sign

    def _advance(self) -> Token:
        """Goes on to the next token, and returns the one that stood here."""
        passed = self._before = self._token
        self._token = next(self._tokens)
        return passed

    def _takes(self, word: str) -> bool:
        """Whether a keyword stands here; if so, goes on."""
        found = self._token.kind is TokenKind.WORD and self._token.text == word
        if found:
            self._advance()
        return found

    def _node(self) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise self._stop.fault(
                f"a filter has at most {MAX_NODES} conditions and connectives",
                "compare a field to several values with `in`",
            )

    def _deeper(self, opening: Span) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            problem = f"at most {MAX_DEPTH} parentheses and `not` stand one inside another"
            raise FilterError(self._text, opening, problem)

    def _too_long(self) -> FilterError:
        span = Span(MAX_CHARACTERS, MAX_CHARACTERS)
        problem = f"a filter has at most {MAX_CHARACTERS:,} characters, lists of facilities not counted"
        return FilterError(self._text, span, problem, f"this one has {len(self._text):,}")

    def _unbalanced(self, span: Span, problem: str, *pairs: Edit) -> FilterError:
        """A parenthesis without its pair; beside both connectives nobody knows what it was to hold."""
        return FilterError(self._text, span, problem, "", *(pairs if len(self._joined) < 2 else ()))

    def _unwrapped(self) -> FilterError:
        stop = self._stop
        last = self._token
        while self._at(TokenKind.TEXT, TokenKind.NUMBER):
            last = self._advance()
            if self._is_sign(","):
                self._advance()
        return mistakes.no_list(stop, last)

    def _may_ask(self, operand: Operand, operator: Operator, at: Token) -> Asked:
        asked = Asked(*operand, operator, self._is_of_group, self._stored)
        if operator not in mistakes.operators(asked):
            raise mistakes.no_operator_of(self._stop, asked, at)
        return asked

    def _made(
        self, start: int, asked: Asked, negated: bool, found: Sequence[tuple[Literal, Span]]
    ) -> Predicate:
        return Predicate(
            asked.field,
            asked.operator,
            tuple(each for each, _ in found),
            asked.function,
            negated,
            Span(start, self._stop.end),
            tuple(span for _, span in found),
        )


def _around(terms: Sequence[Expression]) -> Span:
    return Span(terms[0].span.start, terms[-1].span.end)
