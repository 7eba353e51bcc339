"""Verdicts of the WORDS rule, worked by hand: what is right, what is not, and why."""

from __future__ import annotations

import pytest

from sftknow_core.facts.fact import Fact
from sftknow_core.facts.matcher import FactMatcher
from sftknow_core.facts.names import KnownNames
from sftknow_core.facts.synonyms import load_synonyms, with_synonyms

RIGHT, WRONG = True, False

# (answer, other names known from the set of facts, completion, verdict, why)
CASES = [
    # English: a longer known name is another object
    ("South Korea", (), "in North Korea", WRONG, "Korea is an answer, but not within North Korea"),
    ("South Korea", (), "in Korea", RIGHT, "a synonym on its own"),
    ("South Korea", (), "Republic of Korea", RIGHT, "a synonym that contains another one"),
    ("South Korea", (), "North Korea, not far from Korea.", WRONG, "the second mention is denied"),
    ("South Korea", (), "It borders North Korea; it is in South Korea", RIGHT, "the second mention counts"),
    ("Mexico", (), "New Mexico", WRONG, "a state of another country"),
    ("Mexico", (), "Mexico City", WRONG, "a city is not its country"),
    ("Mexico", (), "New Mexico and Mexico", RIGHT, "both are named"),
    ("Hungary", (), "Austria-Hungary", WRONG, "a hyphen joins a longer name"),
    ("Hungary", (), "Budapest-Hungary", RIGHT, "a hyphen that joins no known name"),
    ("Guinea", (), "Guinea-Bissau", WRONG, "begins the longer name"),
    ("Guinea", (), "Papua New Guinea", WRONG, "ends the longer name"),
    ("Guinea", (), "Guinea", RIGHT, "alone"),
    ("Papua New Guinea", (), "Papua New Guinea", RIGHT, "New Guinea within it is no rival: the answer is longer"),
    ("Oxford", (), "the University of Oxford", WRONG, "the university is not the town"),
    ("Oxford", (), "the University of Oxford in Oxford", RIGHT, "the town is named too"),
    ("New York City", (), "New York", RIGHT, "a synonym"),
    ("New York", (), "New York City", RIGHT, "the table says that it counts for the state too"),
    ("Cyprus", (), "Republic of Cyprus", RIGHT, "the long form of the same country"),
    ("Paris", (), "Paris, Texas", WRONG, "a known town of that name elsewhere"),
    ("Paris", (), "Paris, France", RIGHT, "no known name: a place within another"),
    ("Paris", (), "Paris, not Paris, Texas", RIGHT, "the first mention stands alone"),
    ("Koro", ("Koro Bay",), "Koro Bay", WRONG, "an object of the facts"),
    ("Koro", (), "Koro Bay", RIGHT, "the same without that object"),
    ("Koro", ("Old Koro Bay",), "in old koro bay", WRONG, "in the middle, whatever the case"),
    ("Koro", ("The Koro",), "The Koro", RIGHT, "an article makes no other object"),
    ("Garden", ("The Golden Garden",), "The Golden Garden", WRONG, "another title"),
    ("Virginia", (), "West Virginia.", WRONG, "another state"),
    ("Republic of the Congo", (), "Democratic Republic of the Congo", WRONG, "the other Congo"),
    # English: denied
    ("France", (), "not France but Spain", WRONG, "denied"),
    ("Spain", (), "not France but Spain", RIGHT, "after the turn"),
    ("France", (), "It isn't France.", WRONG, "n't"),
    ("France", (), "It isn’t in France", WRONG, "with the printed apostrophe"),
    ("Paris", (), "no, not in Paris", WRONG, "not"),
    ("Paris", (), "No, Paris.", RIGHT, "no alone denies what was said before"),
    ("5", (), "No. 5", RIGHT, "a number sign"),
    ("Paris", (), "He was never in Paris", WRONG, "never"),
    ("Paris", (), "any city other than Paris", WRONG, "other than"),
    ("Paris", (), "Lyon rather than Paris", WRONG, "rather than"),
    ("Lyon", (), "Lyon rather than Paris", RIGHT, "what stands before is meant"),
    ("Paris", (), "neither Lyon nor Paris", WRONG, "a list goes on"),
    ("Paris", (), "not only Paris", RIGHT, "not only denies nothing"),
    ("1990", (), "not until 1990", RIGHT, "not until denies nothing"),
    ("Paris", (), "It is not Lyon, it is Paris", RIGHT, "another clause"),
    ("Paris", (), "It is not Lyon it's Paris", RIGHT, "another subject begins another clause"),
    ("Paris", (), "I don't think it's Paris", WRONG, "what is not thought is denied"),
    ("Paris", (), "I do not know. Paris?", RIGHT, "another sentence"),
    ("Paris", (), "He did not live in Berlin and died in Paris", RIGHT, "and goes on with something else"),
    ("Paris", (), "Paris is not in Spain", RIGHT, "denied is what comes after"),
    # English: spellings
    ("United States of America", (), "the US", RIGHT, "initials"),
    ("United States of America", (), "the U.S.", RIGHT, "with dots"),
    ("United States of America", (), "the U. S. Army", RIGHT, "with spaces"),
    ("United States of America", (), "USA", RIGHT, "a synonym"),
    ("United States of America", (), "Give us a hint", WRONG, "a pronoun"),
    ("IBM", (), "I.B.M.", RIGHT, "dotted initials are one word"),
    ("IBM", (), "at IBM's lab", RIGHT, "possessive"),
    ("I.B.M.", (), "IBM", RIGHT, "the other way round"),
    ("J. R. R. Tolkien", (), "J.R.R. Tolkien", RIGHT, "spaces between initials"),
    ("J.R.R. Tolkien", (), "J R R Tolkien", RIGHT, "without dots"),
    ("WHO", (), "the man who", WRONG, "a name in capitals that is a common word"),
    ("WHO", (), "the WHO", RIGHT, "in capitals"),
    ("São Paulo", (), "Sao Paulo", RIGHT, "accents are dropped"),
    ("Sao Paulo", (), "São Paulo", RIGHT, "the other way round"),
    ("Łódź", (), "Lodz", RIGHT, "a letter with a stroke"),
    ("Tromsø", (), "Tromso or Tromsoe", RIGHT, "both spellings"),
    ("Hawaiʻi", (), "Hawaii", RIGHT, "an apostrophe within a word"),
    ("Oman", (), "the Roman empire", WRONG, "part of a word"),
    # symbols and numbers
    ("C++", (), "in C++.", RIGHT, "the signs belong to it"),
    ("C", (), "in C++", WRONG, "another language"),
    ("C++", (), "in C", WRONG, "another language"),
    ("C", (), "C# and C", RIGHT, "the second mention"),
    ("C#", (), "C#", RIGHT, "the sharp belongs to it"),
    (".NET", (), "the .NET runtime", RIGHT, "with its dot"),
    ("NET", (), "the .NET runtime", WRONG, "without it"),
    ("A+", (), "She got an A+.", RIGHT, "the plus belongs to it"),
    ("A", (), "She got an A+.", WRONG, "another mark"),
    ("-5", (), "It is -5 degrees", RIGHT, "with its sign"),
    ("-5", (), "−5", RIGHT, "the printed minus"),
    ("-5", (), "minus 5", RIGHT, "in words"),
    ("5", (), "-5", WRONG, "another number"),
    ("-5", (), "5", WRONG, "another number"),
    ("1918", (), "1914-1918", RIGHT, "a hyphen between numbers is no sign"),
    ("3.14", (), "about 3.14.", RIGHT, "a full stop after it"),
    ("3", (), "3.14", WRONG, "the whole part is another number"),
    ("14", (), "3.14", WRONG, "so is the fraction"),
    ("1990", (), "on 12.05.1990", RIGHT, "a date is several numbers"),
    ("1,000", (), "1000", RIGHT, "a comma between groups"),
    ("1000", (), "1,000 people", RIGHT, "the other way round"),
    ("1000", (), "1 000", RIGHT, "a space between groups"),
    ("1,000", (), "1 000", RIGHT, "comma and space"),
    ("1000", (), "11,000", WRONG, "another number"),
    ("2", (), "1, 2 and 3", RIGHT, "a list of numbers"),
    ("🎉", (), "yes 🎉!", RIGHT, "a symbol alone is looked for as it is"),
    ("❤️", (), "🎉️", WRONG, "what only says how a symbol looks is no word"),
    # German
    ("Ungarn", (), "Österreich-Ungarn", WRONG, "a longer known name"),
    ("Ungarn", (), "in Ungarn", RIGHT, "alone"),
    ("Frankreich", (), "nicht Frankreich, sondern Spanien", WRONG, "denied"),
    ("Spanien", (), "nicht Frankreich, sondern Spanien", RIGHT, "after the turn"),
    ("Spanien", (), "nicht Frankreich sondern Spanien", RIGHT, "without the comma"),
    ("Wien", (), "Es ist nicht nur Wien", RIGHT, "nicht nur denies nothing"),
    ("München", (), "Muenchen", RIGHT, "the umlaut transcribed"),
    ("München", (), "MUNCHEN", RIGHT, "the umlaut dropped"),
    ("Gießen", (), "Giessen", RIGHT, "sharp s"),
    ("3,14", (), "3.14", RIGHT, "the comma before a fraction"),
    ("1000000", (), "1.000.000 Einwohner", RIGHT, "points between groups"),
    # Turkish
    ("İstanbul", (), "ISTANBUL'da", RIGHT, "dotted and dotless i, and an ending after an apostrophe"),
    ("Iğdır", (), "Igdir", RIGHT, "dotless i"),
    ("Türkiye", (), "Türkiye'nin başkenti", RIGHT, "an ending after an apostrophe"),
    ("Kore", (), "Kuzey Kore", WRONG, "a longer known name"),
    ("Fransa", (), "Fransa değil, İspanya", WRONG, "denied after it"),
    ("Fransa", (), "Fransa'da değil", WRONG, "denied after its ending"),
    ("İspanya", (), "Fransa değil İspanya", RIGHT, "what comes after is meant"),
    # Japanese
    ("東京", (), "首都は東京である", RIGHT, "no spaces between words"),
    ("東京", (), "東京です。", RIGHT, "the copula follows"),
    ("東京", (), "東京都", RIGHT, "the prefecture of Tokyo, no known name"),
    ("京都", (), "東京都", WRONG, "東京 is a known name and takes the 京"),
    ("京都", (), "東京都と京都", RIGHT, "the second mention"),
    ("大阪", (), "東大阪に住む", WRONG, "a direction at the head makes another place"),
    ("大阪", (), "関西大阪", RIGHT, "西 belongs to the word before"),
    ("日本", (), "日本語", WRONG, "a language"),
    ("イラン", (), "イランの首都", RIGHT, "a particle follows a Katakana word"),
    ("インド", (), "インドネシア", WRONG, "part of a Katakana word"),
    ("フランス", (), "フランスではなくスペイン", WRONG, "denied after it"),
    ("スペイン", (), "フランスではなくスペイン", RIGHT, "what comes after is meant"),
    ("カキ", (), "ガギ", WRONG, "voiced marks make other letters"),
    ("ガーナ", (), "ｶﾞｰﾅ", RIGHT, "half width"),
    ("東京", ("東京大学",), "東京大学で学ぶ", WRONG, "a longer known name"),
    # Chinese
    ("北京", (), "中国的首都是北京", RIGHT, "no spaces between words"),
    ("北京", ("北京大学",), "北京大学", WRONG, "a longer known name"),
    ("墨西哥", (), "新墨西哥州", WRONG, "a longer known name"),
    ("西安", (), "陕西西安", RIGHT, "西 belongs to the province before it"),
    ("法国", (), "不是法国而是西班牙", WRONG, "denied"),
    ("西班牙", (), "不是法国而是西班牙", RIGHT, "after the turn"),
    ("金", (), "金色", WRONG, "a single character within a run"),
    ("金", (), "答案：金。", RIGHT, "a single character alone"),
    ("1990", (), "他生于1990年", RIGHT, "a change of script ends a word"),
    ("Paris", (), "首都はParisです", RIGHT, "likewise"),
    # Arabic
    ("القاهرة", (), "في القاهرة", RIGHT, "as it is written"),
    ("القاهرة", (), "قاهرة", RIGHT, "without the article"),
    ("القاهرة", (), "بالقاهرة", RIGHT, "a preposition and the article"),
    ("محمد", (), "مُحَمَّد", RIGHT, "vowel signs are dropped"),
    ("محمد", (), "محـــمد", RIGHT, "tatweel is dropped"),
    ("أحمد", (), "احمد", RIGHT, "the hamza of alef"),
    ("كوريا", (), "كوريا الشمالية", WRONG, "a longer known name"),
    ("فرنسا", (), "ليس فرنسا بل إسبانيا", WRONG, "denied"),
    ("إسبانيا", (), "ليس فرنسا بل إسبانيا", RIGHT, "after the turn"),
    ("1990", (), "عام ١٩٩٠", RIGHT, "digits of another script"),
    # others
    ("กรุงเทพ", (), "เมืองหลวงคือกรุงเทพ", RIGHT, "Thai has no spaces between words"),
    ("กา", (), "กิา", WRONG, "a vowel sign makes another character"),
    ("서울", (), "수도는 서울입니다", RIGHT, "Korean: a particle follows"),
    ("서울", (), "서울대학교", WRONG, "Korean: part of a longer word"),
    ("프랑스", (), "프랑스가 아니라 스페인", WRONG, "Korean: denied after it"),
    ("ירושלים", (), "יְרוּשָׁלַיִם", RIGHT, "Hebrew points are dropped"),
    ("Йошкар", (), "Иошкар", WRONG, "й is a letter of its own"),
    ("Королёв", (), "Королев", RIGHT, "ё is often written е"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "others", "completion", "right"),
    [case[:4] for case in CASES],
    ids=[f"{c[0]}|{c[2]}" for c in CASES],
)
def test_a_verdict(answer: str, others: tuple[str, ...], completion: str, right: bool) -> None:
    synonyms = load_synonyms()
    names = KnownNames.of([Fact("P1", f"Which is {other}?", (other,)) for other in others], synonyms)
    matcher = FactMatcher.of(with_synonyms((answer,), synonyms), None, names)
    assert matcher.words(completion) is right
    position = matcher.scores(completion).position
    assert (position is not None) is right


def test_the_table_is_large_and_no_case_stands_in_it_twice() -> None:
    assert len(CASES) >= 80
    assert len({case[:3] for case in CASES}) == len(CASES)
