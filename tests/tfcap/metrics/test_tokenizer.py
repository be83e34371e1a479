import shutil
import subprocess
import unicodedata
from pathlib import Path

import pytest

from tfcap.metrics import tokenizer
from tfcap.metrics.tokenizer import ptb_tokenize

# captions, and what the PTB tokeniser and COCO's removal of punctuation make of them
PTB = {
    "A man, in a red shirt, rides a horse.": "a man in a red shirt rides a horse",
    "the dogs .": "the dogs",
    "A man's dog, and the boys' toys.": "a man 's dog and the boys toys",
    "They can't and don't; it isn't I'm": "they ca n't and do n't it is n't i 'm",
    "We've, you'd, she'll, CAN'T, who's": "we 've you 'd she 'll ca n't who 's",
    "a man\u2019s \u201cbest\u201d friend doesn\u2019t bark": "a man 's best friend does n't bark",
    "He cannot go, he's gonna fall; 'twas wet": "he can not go he 's gon na fall 't was wet",
    "a T-shirt, a 3-d x-ray, a merry-go-round": "a t-shirt a 3-d x-ray a merry-go-round",
    "a half - eaten cake -- or pie--on a dog-": "a half eaten cake or pie on a dog",
    "a bird's-eye-view of New York": "a bird 's eye-view of new york",
    "J. P. Morgan's U.S. flag at 5 p.m. in plan B.": "j. p. morgan 's u.s. flag at 5 p.m. in plan b",
    "The sign says \"Stop!\" or 'Go'.": "the sign says stop or go",
    "a dog (the brown one) [sic] {x}": "a dog -lrb- the brown one -rrb- -lsb- sic -rsb- -lcb- x -rcb-",
    "It waits... and waits.. wait\u2026 . . .": "it waits and waits wait",
    "and/or he/she w/ a b/w photo, 1/2 a/c 24/7": "and/or he/she w / a b/w photo 1/2 a/c 24/7",
    "salt & pepper, AT&T, B&W, b&w, M&Ms": "salt & pepper at&t b&w b & w m&m s",
    "50% off for $5 or $1.50, #1 in £5": "50 % off for $ 5 or $ 1.50 # 1 in # 5",
    "1,000 cows at 10:30 or 3:00pm, 2.5 .5 -5": "1,000 cows at 10:30 or 3:00 pm 2.5 .5 -5",
    "a 5-year-old, 1st and 20th, 4x4, 3.5-inch": "a 5-year-old 1st and 20th 4x4 3.5-inch",
    "5'10\" tall in the 1950's and '90s": "5 10 tall in the 1950 's and '90s",
    "Mr. Smith of Main St. vs. Dr. No. No. 5": "mr. smith of main st. vs. dr. no no. 5",
    "rock 'n' roll, o'clock, O'Brien, 'em, y'all": "rock 'n' roll o'clock o'brien 'em y' all",
    "a jack-o'-lantern and a jack-o-lantern": "a jack-o lantern and a jack-o-lantern",
    "cat,dog end.The dog wow!! what?! ok:no": "cat dog end.the dog wow !! what ?! ok no",
    "caf\u00e9 na\u00efve pi\u00f1ata 70\u00b0F \u2603 \U0001f600 \u00bd": (
        "caf\u00e9 na\u00efve pi\u00f1ata 70 \u00b0 f \u2603 1/2"
    ),
    "#tag @home @ # a + b = c * < >": "#tag @home @ # a + b = c * < >",
    "a <UNK> on a <UNK>": "a <unk> on a <unk>",
    "": "",
    " . , ! ? ; : ' \" - ": "",
}


def ptb_words(sentences, folder):
    """What Stanford's tokeniser and COCO's removal of punctuation make of each sentence."""
    java = shutil.which("java")
    if java is None:
        pytest.skip("there is no java to run the PTB tokeniser")
    ptb = pytest.importorskip("pycocoevalcap.tokenizer.ptbtokenizer")
    file = folder / "sentences.txt"
    file.write_text("".join(f"{sentence}\n" for sentence in sentences), encoding="utf-8")
    jar = Path(ptb.__file__).with_name(ptb.STANFORD_CORENLP_3_4_1_JAR)
    command = [java, "-Dfile.encoding=UTF-8", "-cp", str(jar)]
    command += ["edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase"]
    ran = subprocess.run([*command, str(file)], capture_output=True, timeout=300, check=True)
    lines = ran.stdout.decode().split("\n")[: len(sentences)]
    return [[w for w in line.split() if w not in ptb.PUNCTUATIONS] for line in lines]


@pytest.mark.parametrize(("sentence", "words"), PTB.items())
def test_words_are_those_of_the_ptb_tokeniser(sentence, words):
    assert ptb_tokenize(sentence) == words.split()


def test_the_fixed_examples_are_what_java_makes_of_them(tmp_path):
    assert ptb_words(list(PTB), tmp_path) == [words.split() for words in PTB.values()]


def test_all_captions_of_flickr8k_have_the_words_that_java_finds(data, tmp_path):
    file = data / "flickr8k" / "Flickr8k_text" / "Flickr8k.token.txt"
    if not file.exists():
        pytest.skip(f"{file} is not there")
    captions = [line.partition("\t")[2] for line in file.read_text().splitlines()]
    ours = [ptb_tokenize(caption) for caption in captions]
    differ = [k for k, words in enumerate(ptb_words(captions, tmp_path)) if words != ours[k]]
    assert len(differ) <= len(captions) / 1000, [captions[k] for k in differ[:10]]


def test_tokenizing_words_again_changes_nothing_of_plain_text():
    hypothesis = pytest.importorskip("hypothesis")
    words = hypothesis.strategies.text("abcdefghijklmnopqrstuvwxyz", min_size=1)
    whole = words.filter(lambda word: word not in tokenizer._SPLIT)

    @hypothesis.given(hypothesis.strategies.lists(whole, max_size=8))
    def check(words):
        assert ptb_tokenize(" ".join(words)) == words

    check()


def test_any_text_becomes_lower_case_words_without_blanks():
    hypothesis = pytest.importorskip("hypothesis")

    @hypothesis.given(hypothesis.strategies.text())
    def check(text):
        for word in ptb_tokenize(text):
            assert word
            assert not any(letter.isspace() for letter in word)
            assert word == word.lower()

    check()


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        ("एक भूरा कुत्ता, दौड़ रहा है।", "एक भूरा कुत्ता दौड़ रहा है"),
        ("eine piñata-shaped, grün-weiße/rote Fahne", "eine piñata-shaped grün-weiße/rote fahne"),
        ("می\u200cدود، سگ؟", "می\u200cدود سگ"),
        ("一只 狗 。", "一只 狗"),
        ("a \u2764\ufe0f", "a \u2764"),
    ],
)
def test_words_of_other_scripts_are_whole(sentence, words):
    for form in "NFC", "NFD":
        found = ptb_tokenize(unicodedata.normalize(form, sentence))
        assert found == unicodedata.normalize("NFC", words).split()


def test_ascii_is_read_as_the_same_words_by_the_quicker_pattern(monkeypatch):
    ascii_only = [sentence for sentence in PTB if sentence.isascii()]
    quick = list(map(ptb_tokenize, ascii_only))
    monkeypatch.setattr(tokenizer, "_ASCII_TOKEN", tokenizer._TOKEN)
    assert list(map(ptb_tokenize, ascii_only)) == quick
