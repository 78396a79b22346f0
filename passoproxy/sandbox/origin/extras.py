"""What a request can ask beyond the sections of requirements: regions, states, the country itself, forms for telephones."""

from passoproxy.sandbox.data.countries import Country
from passoproxy.sandbox.data.rules import Requirements
from passoproxy.sandbox.data.texts import COUNTRY_TOPICS, PHRASES, country_topic, written
from passoproxy.sandbox.origin.answering import Members
from passoproxy.sandbox.origin.asking import Asked


def extended(record: Members, rules: Requirements, asked: Asked, form: str) -> Members:
    """What a request can ask beyond the sections; each of it changes the answer, so that it belongs into a cache key."""
    if asked.flag("show_country_info"):
        record["country_info"] = country_record(rules.destination, written(asked.language()))
    if asked.flag("return_regions"):
        record["regions"] = [{"code": f"{rules.destination.code}-1", "name": rules.destination.capital}]
    states = asked.words("states")
    if states:
        record["states"] = states
    for name in ("zip_code", "zip_location", "cruise_compass_cruise_id"):
        value = asked.text(name)
        if value is not None:
            record[name] = value
    if form == "html" and asked.choice("target-device", ("mobile", "desktop"), "desktop") == "mobile":
        for part in record.values():
            if isinstance(part, dict) and "content" in part:
                part["content"] = f'<div class="mobile">{part["content"]}</div>'
    return record


def country_record(country: Country, known: str) -> Members:
    """What there is to say about a destination itself, by topic."""
    topics = {
        topic: {"title": PHRASES[known][topic], "content": f"<p>{country_topic(country, topic, known)}</p>"}
        for topic in COUNTRY_TOPICS
    }
    content = "".join(f"<h3>{topic['title']}</h3>{topic['content']}" for topic in topics.values())
    return {
        "country": country.code,
        "language": known.upper(),
        "title": country.names[known],
        "content": content,
        "topics": topics,
    }
