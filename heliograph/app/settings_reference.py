"""Formats the settings of the configuration: as the file of a new home, and as a page of the documentation.

`python -m heliograph.app.settings_reference` prints the page.
"""

from __future__ import annotations

import sys
from itertools import groupby

import orjson

from heliograph.app.config import Setting, sections, settings

_PAGE = """\
# Settings

For those who configure a deployment: every key of the [configuration](configuration.md), its name in the environment, its
default and its meaning. `make docs` writes this page from the configuration's models. More about some of them:
[buses on Kafka](kafka.md), [object stores](object-stores.md), [duplicates](../explanation/delivery.md#duplicates),
[keys of requests](../how-to/run-commands-on-instances.md#who-may-do-what).
"""


def starter() -> str:
    """Returns the configuration file of a new home: every key, commented out."""
    parts = [
        "# heliograph.toml: every key may be left out. `heliograph doctor` shows what holds and whether it works.\n"
    ]
    for section, keys in groupby(settings(), lambda setting: setting.section):
        parts.append(f"\n# {sections()[section].__doc__}\n[{section}]\n")
        parts += [f"# {setting.key} = {_toml(setting)}\n" for setting in keys]
    return "".join(parts)


def reference() -> str:
    """Returns the page of the documentation, in Markdown."""
    rows = [
        f"| `{one.name}` | `{one.environment}` | {f'`{one.default}`' if one.default else '–'} | {one.description} |\n"
        for one in settings()
    ]
    return "".join([_PAGE, "\n| setting | environment | default | meaning |\n|---|---|---|---|\n", *rows])


def _toml(setting: Setting) -> str:
    """Formats the example of a setting in TOML, which equals JSON for these types."""
    return orjson.dumps(setting.example).decode()


if __name__ == "__main__":
    sys.stdout.write(reference())
