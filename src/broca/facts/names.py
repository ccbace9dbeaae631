"""The twelve relations of the relation-neurons paper: their names, file names and fields."""

from __future__ import annotations

# our name (paper B's) -> (file name in the LRE data set, field of knowledge)
_RELATIONS = {
    "company_ceo": ("company_ceo", "companies"),
    "company_hq": ("company_hq", "companies"),
    "landmark_continent": ("landmark_on_continent", "places"),
    "landmark_country": ("landmark_in_country", "places"),
    "person_father": ("person_father", "people"),
    "person_mother": ("person_mother", "people"),
    "person_occupation": ("person_occupation", "people"),
    "person_plays_instrument": ("person_plays_instrument", "music"),
    "person_pro_sport": ("person_plays_pro_sport", "sports"),
    "person_sport_position": ("person_plays_position_in_sport", "sports"),
    "product_company": ("product_by_company", "companies"),
    "star_constellation": ("star_constellation", "sky"),
}

RELATION_NAMES: tuple[str, ...] = tuple(_RELATIONS)
RELATION_ALIASES: dict[str, str] = {
    file_name: name for name, (file_name, _) in _RELATIONS.items() if file_name != name
}


def canonical_name(name: str) -> str:
    """The paper's name of a relation given by its LRE file name; any other name as it is."""
    return RELATION_ALIASES.get(name, name)


def field_of(name: str) -> str:
    """The field of knowledge of a relation; a relation we do not know is a field of its own."""
    return _RELATIONS[name][1] if name in _RELATIONS else name
