"""Words as COCO's evaluation counts them: the rules of Stanford's PTB tokeniser, without its Java."""

import re
import unicodedata

from tfcap.data.vocabulary import MARKS

__all__ = ["ptb_tokenize"]


def ptb_tokenize(sentence: str) -> list[str]:
    """The words of a sentence as COCO's evaluation counts them, in lower case.

    COCO's evaluation runs Stanford's PTBTokenizer (CoreNLP 3.4.1, -preserveLines -lowerCase), then
    omits the tokens '' ' `` ` . ? ! , : - -- ... ; of what it gives. The rules of both:

    - Endings are words of their own: man 's, I 'm, they 're, do n't, ca n't; so are the halves of
      can not, gon na, got ta, wan na, gim me, lem me, 't is, 't was. Curved quotes count as straight.
    - Words joined by hyphens or slashes are one word (t-shirt, merry-go-round, and/or, 1/2); so are
      O'Brien, o'clock, 'em, the '90s, and AT&T in capitals. Any other apostrophe ends a word.
    - Numbers keep their inner points, commas and colons (3.5, 1,000, 10:30) and a sign in front.
    - A full stop belongs to an abbreviation (Mr., St., U.S., p.m.) and to a single letter before
      other words (J. P. Morgan); it joins two words that no space parts (end.The), as ! and ? do;
      else it is omitted. (At the end of a line the PTB tokeniser judges a single letter by the
      line after it. Ours never has the stop there, as when A or The follows.)
    - ( ) [ ] { } become -lrb- -rrb- -lsb- -rsb- -lcb- -rcb- and stay, as COCO removes these in
      capitals only, which the tokeniser no longer writes.
    - $ % & # / + = * and their like are words; #tag and @name are one word each, and so are two or
      more of ! and ?. Characters beyond U+FFFF (emoji) are omitted.

    Of other scripts than PTB's, words keep their combining marks, hyphens and slashes join letters of
    every script, and punctuation is omitted. The text is brought to Unicode's NFC first.

    Web and mail addresses, smileys and telephone numbers, rare in captions, are not treated specially.

    Example:
        >>> ptb_tokenize("A man's dog, and the boys' toys.")
        ['a', 'man', "'s", 'dog', 'and', 'the', 'boys', 'toys']
    """
    tokens = []
    text = unicodedata.normalize("NFC", sentence).translate(_WRITTEN_AS)
    for found in (_ASCII_TOKEN if text.isascii() else _TOKEN).findall(text):
        token = found.lower()
        tokens += _SPLIT.get(token) or [_BRACKETS.get(token, token)]
    return tokens


_WRITTEN_AS = str.maketrans(
    {"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"'}  # curved quotes
    | {"\u2013": "--", "\u2014": "--", "\u2026": "...", "\u00ad": ""}  # dashes, dots, soft hyphen
    | {"½": " 1/2 ", "¼": " 1/4 ", "¾": " 3/4 ", "£": " # ", "€": " $ ", "¢": " cents "}
)
_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_HALVES = ("can not", "gon na", "got ta", "wan na", "gim me", "lem me", "'t is", "'t was")
_SPLIT = {word.replace(" ", ""): word.split() for word in _HALVES}
_ABBREVIATION = (
    r"mr|mrs|ms|dr|prof|rev|hon|capt|col|gen|lt|maj|sgt|gov|sen|rep|pres|jr|sr|esq|bros|co|corp|inc"
    r"|ltd|st|ave|rd|blvd|mt|ft|bldg|dept|univ|etc|vs|est|ext|tel|al|cf|sq|ph\.d"
    r"|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|mon|tues?|wed|thu|thurs|fri"
)
_PUNCTUATION = "".join(  # beyond Latin's, which PTB knows
    chr(code)
    for code in (*range(0x300, 0x2000), *range(0x2E80, 0x10000))
    if unicodedata.category(chr(code))[0] == "P"
)


def _tokens(letter: str, alnum: str, marks: str) -> re.Pattern[str]:
    """The tokens, for what is a letter, what is a letter or digit, and the marks that may follow."""
    return re.compile(
        rf"""
          <\w+>                                               # <unk>
        | 'n' | '(?:tis|twas|cause|til|em|n)(?!\w)            # rock 'n' roll, 'em
        | (?<!\w)'(?:[0-9]0s|[0-9][0-9])(?![:.,]?\w|['%])     # the '90s, of '68
        | '(?:s|m|d|re|ve|ll)(?!\w) | n't(?!\w)               # the ends of man's, I'm, don't
        | {alnum}+(?:-{letter}+){{0,2}}(?:/{alnum}+(?:-{letter}+){{0,2}}){{1,2}}  # and/or, 1/2
        | {alnum}(?:{alnum}|[.,])*(?:-{alnum}+)+              # t-shirt, 3.5-inch
        | (?:{_ABBREVIATION}|[a-z](?:\.[a-z])+)\.(?![^\W\d])  # Mr., U.S., p.m.
        | [a-z]\.(?![^\W\d]|\s*$)                             # J. P. Morgan
        | no\.(?=\s*[0-9])                                    # No. 5
        | (?:[a-z]+-)*[dol]'[^\W\d_]{{2,}} | ma'am | y'(?=all)  # O'Brien, o'clock
        | (?-i:[A-Z]+(?:&[A-Z]+)+)                            # AT&T
        | [0-9]*(?:[.,:][0-9]+)+ | (?<![\w-])[-+][0-9]+       # 1,000, 3.5, 10:30, -5
        | (?:(?!n't)[^\W\d_])+(?:[.!?][^\W\d_]+)+             # end.The, as typed in haste
        | (?:(?!n't(?!\w))\w{marks})+
        | [@#][a-z]\w* | [!?]{{2,}}                           # @home, ?!
        | [^\w\s'"`.?!,:;\u200b\U00010000-\U0010ffff{MARKS}{_PUNCTUATION}-]  # &, %, $
        """,
        re.VERBOSE | re.IGNORECASE,
    )


_TOKEN = _tokens(rf"(?:[^\W\d_][{MARKS}]*)", rf"(?:[^\W_][{MARKS}]*)", rf"[{MARKS}]*")
_ASCII_TOKEN = _tokens("[a-z]", "[a-z0-9]", "")  # the same of ASCII, three times as quick
