"""What an export says of real people, made unrecognisable: names become believable others, free text is blurred.

The same id gives the same name in every run and every snapshot. This is pseudonymising, not anonymising: ids stay, so
that a newer snapshot finds its rows again."""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import blake2b
from typing import Final

_GIVEN: Final = (
    "Ada Adil Agnes Ahmed Aiko Alba Alma Amara Amir Ana Anders Anika Anton Ariel Asha Astrid Aya Bela "
    "Bianca Boris Bruno Carla Carmen Celia Chen Chiara Clara Dalia Dario David Deniz Dora Edgar Elena "
    "Elias Elif Emil Emma Enzo Esra Eva Farah Felix Fiona Flora Gala Gita Greta Hana Hassan Hugo Ida Igor "
    "Ilse Imran Ines Iris Ivan Jana Joana Jonas Juno Kai Karim Keiko Kira Lars Leila Lena Leo Lina Luca "
    "Lucia Maja Malik Mara Marco Mateo Mei Mila Mina Miro Nadia Naoki Nils Nina Noor Nora Olga Omar Oscar "
    "Pablo Paula Petra Priya Rafael Rania Ravi Rosa Ruth Samir Sara Selma Sofia Sven Tariq Tessa Theo "
    "Tomas Uma Vera Viktor Yara Yusuf Zara"
).split()
_FAMILY: Final = (
    "Abate Alonso Amari Andersen Aoki Arslan Baker Banerjee Barros Bauer Becker Bell Berg Bianchi Blom "
    "Bose Cardoso Castro Chan Cohen Conti Cruz Dahl Demir Diaz Dubois Eriksen Farkas Faure Fischer "
    "Fonseca Garcia Gomez Green Gruber Haas Haddad Hansen Horvat Ibarra Ito Jansen Jensen Kaya Keller "
    "Khan Kim Klein Kovac Kumar Lang Larsen Laurent Lee Lim Lopez Lund Mancini Marin Martin Mehta Meyer "
    "Molina Moreau Mori Murphy Nagy Nair Navarro Neves Nguyen Nowak Okafor Olsen Ortiz Park Patel Pereira "
    "Petrov Pinto Popov Quinn Ramos Rao Reyes Ricci Rossi Roux Russo Sato Schmidt Serra Shah Silva Simon "
    "Singh Soto Stein Suzuki Tan Thomas Toth Vargas Vega Visser Vogel Wagner Walsh Weber Wong Yamada "
    "Yilmaz Zhang Ziegler"
).split()

# Words that a review may keep. What is not here becomes a dot: an allow-list cannot leak a name it does not know.
# Words that are also given names (will, may, grace, joy, hope …) are left out on purpose.
_KEPT: Final = frozenset(
    (
        "a about above absolutely access accommodating across after again all almost along already also "
        "although always amazing amenities an and another any anyone anything apartment appreciated are area "
        "around arrival arrive arrived as at atmosphere available awesome away back bad balcony bar bars "
        "basic bath bathroom bathrooms be beach beautiful beautifully because bed bedroom bedrooms beds been "
        "before being best better between beyond big bit block blocks boat both breakfast bright building bus "
        "business busy but by cafe cafes came can car center central centre check checked checkin checkout "
        "children city clean cleaned cleaning clear close clothes coffee cold comfortable comfy communicated "
        "communication communicative community complex condo condition conditioner conditioning convenience "
        "convenient conveniently cook cooking cool could couldn couple cozy cosy day days decent decorated "
        "definitely described description design did didn different difficult dinner directions dirty "
        "distance do does doesn don done door doors down downtown dryer during each early easily easy eat "
        "either elevator else enjoy enjoyed enough entire entrance equipped especially even evening every "
        "everyone everything everywhere exactly excellent experience explore extra extremely family fan "
        "fantastic far fast feel feels felt few find fine first flat flight floor food for friend friendly "
        "friends from front full fully furniture garden gave get gets getting give go going good got great "
        "ground group guest guests gym had hall happy hard has have having he heat heating help helped "
        "helpful helping her here high highly him his holiday home homely homey hospitable hospitality host "
        "hosted hosting hosts hot hotel hotels house how however huge if immediately in incredibly "
        "information inside instructions interesting into is issue issues it its itself just keep kept key "
        "keys kids kind kitchen kitchenette know lack large last late later laundry least left let level lift "
        "light like listing little lived lively living local located location locations long look looked "
        "looking looks lot lots loud love loved lovely low luggage made main make makes making mall many "
        "market massive maybe me meet met metro microwave minute minutes modern money month more morning most "
        "move much museum must my near nearby neat need needed needs neighborhood neighbour neighbourhood "
        "neighbours never new next nice nicely night nights no noise noisy none not nothing now of off offer "
        "offered offers ok okay old on once one only onto open or organized other others our out outside over "
        "overall own owner park parking part people perfect perfectly person pictures picture place places "
        "plenty plus polite pool position possible prepared pretty price prices private problem problems "
        "prompt properly property provide provided public question questions quick quickly quiet quite rain "
        "ran rate rather rating read ready real really reasonable recommend recommendation recommendations "
        "recommended relax relaxing rent reply respond responded response responsive rest restaurant "
        "restaurants return right road roof room rooms safe said same saw say sea second see seemed self "
        "sense separate service several shampoo share shared she sheets shop shopping shops short should "
        "shower side sightseeing simple since single sink sit small smell smooth so soap soft some someone "
        "something sometimes soon space spacious spot spotless staff stairs station stations stay stayed "
        "staying stays still stop stops store stores street streets studio stuff stunning such suitable super "
        "supermarket sure surrounding sweet swimming table taxi tea terrace than thank thanks that the their "
        "them then there these they thing things think third this those though thought three through time "
        "times tiny tips to together toilet too took top total tourist towel towels town train transport "
        "transportation travel traveler travelers traveling trip tv two under understanding unit until up "
        "upon us use used using vacation value variety very via view views visit visited wait walk walkable "
        "walking want wanted warm was wash washer washing wasn water way we weather week weekend weeks "
        "welcome welcomed welcoming well went were what when where which while white who whole why wifi "
        "window windows wish with within without wonderful work worked working works world worth would yard "
        "year years yes yet you your yourself"
    ).split()
)
_PIECE: Final = re.compile(r"[^\W_]+(?:['’][^\W_]+)?|[.,!?]")
_ENDS: Final = frozenset(".!?")
_MARKS: Final = frozenset(["", *",.!?"])
_SPACE_BEFORE_MARK: Final = re.compile(r" ([.,!?])")
_EMAIL: Final = re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]+")
_LINK: Final = re.compile(r"(?:https?://|www\.)\S+", re.IGNORECASE)
_TELEPHONE: Final = re.compile(r"\+?\d(?:[\s().-]{0,2}\d){7,}")
_TIERS: Final = (
    ("flexible", 35),
    ("moderate", 30),
    ("limited", 10),
    ("firm", 15),
    ("strict", 5),
    ("non-refundable", 5),
)


def _draw(what: str, key: int) -> int:
    return int.from_bytes(blake2b(f"{what}:{key}".encode(), digest_size=8).digest(), "big")


@lru_cache(maxsize=4096)
def person(key: int) -> str:
    """A believable full name for a host."""
    drawn = _draw("host", key)
    return f"{_GIVEN[drawn % len(_GIVEN)]} {_FAMILY[drawn // len(_GIVEN) % len(_FAMILY)]}"


@lru_cache(maxsize=4096)
def author(key: int) -> str:
    """A believable short name for the author of a review."""
    drawn = _draw("reviewer", key)
    return f"{_GIVEN[drawn % len(_GIVEN)]} {_FAMILY[drawn // len(_GIVEN) % len(_FAMILY)][0]}."


def cancellation_tier(key: int) -> str:
    """The cancellation tier of a home whose export does not say one: spread as hosts choose them, the same every time."""
    drawn = _draw("tier", key) % sum(weight for _, weight in _TIERS)
    for tier, weight in _TIERS:
        drawn -= weight
        if drawn < 0:
            return tier
    raise AssertionError


def without_contacts(text: str) -> str:
    """`text` without e-mail addresses, links and telephone numbers."""
    if "@" in text:
        text = _EMAIL.sub("…", text)
    return _TELEPHONE.sub("…", _LINK.sub("…", text))


def without_name(text: str, real: str, shown: str) -> str:
    """`text` with the host's real name, where it stands as words of its own, replaced by the one shown."""
    for name in (real, *re.split(r"\s*(?:&|\+|,|/|\band\b)\s*", real)):
        if len(name) >= 3 and name[0].isupper() and name in text:
            text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", shown.split()[0], text)
    return text


def blurred(text: str) -> str:
    """A review with only its everyday words left, "…" for each run of others; nothing when too little is left to read.

    Capitals inside a sentence mark names, so a capitalised word is kept only where a sentence begins."""
    kept = [""]
    words = shown = 0
    begins = True
    for piece in _PIECE.findall(text):
        if piece in _ENDS:
            begins = True
            if kept[-1] not in _MARKS:
                kept.append(piece)
        elif piece == ",":
            if kept[-1] not in _MARKS and kept[-1] != "…":
                kept.append(piece)
        else:
            words += 1
            if _may_stay(piece, begins):
                shown += 1
                kept.append(piece)
            elif kept[-1] != "…":
                kept.append("…")
            begins = False
    if shown * 2 < words or not shown:
        return ""
    return _SPACE_BEFORE_MARK.sub(r"\1", " ".join(kept[1:]))


@lru_cache(maxsize=16_384)
def _may_stay(word: str, begins: bool) -> bool:
    if word == "I":
        return True
    stem = re.split("['’]", word)[0]
    return stem.lower() in _KEPT and (stem.islower() or (begins and stem.istitle()))
