"""Small files in the format of FOLIO."""

import json


def row(story=0, number=0, **changed):
    """A row of v0.0's training file: two premises about the story's people, and the conclusion ``number`` of three."""
    cells = {
        "story_id": story,
        "example_id": 10 * story + number,
        "premises": [f"All friends of Ann{story} sing. ", f"Bob{story} is a friend of Ann{story}."],
        "premises-FOL": ["..."],
        "conclusion": [f"Bob{story} sings.", f"Bob{story} does not sing.", f"Bob{story} dances."][number],
        "label": ["True", "False", "Unknown"][number],
        "source": "hyb",
    }
    return {key: value for key, value in (cells | changed).items() if value is not ...}


def write(path, rows):
    path.write_text("".join(json.dumps(cells) + "\n" for cells in rows), encoding="utf-8")
    return path
