"""What it takes to get the same again: command, recipe, seed, commit, versions."""

import time

import yaml

from s2l_ray.report.figures import Section, Table
from s2l_ray.report.study import Study


def reproduce_section(study: Study) -> Section:
    """Return the commands and versions; `extra` holds each record's recipe as YAML."""
    rows, recipes = [], []
    for record in study.records:
        content = record.content
        seeds = sorted({arm.seed for arm in study.arms if arm.run == record.name} or {content["recipe"]["seed"]})
        when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(content["started"]))
        rows.append((record.name, content["command"], ", ".join(map(str, seeds)),
                     content["git_commit"] or "not from a checkout", when, record.storage.uri))
        text = yaml.safe_dump(content["recipe"], sort_keys=False, allow_unicode=True)
        recipes.append({"name": record.name, "yaml": text})
    table = Table("Commands", ("run", "command", "seeds", "commit", "started", "storage"), tuple(rows),
                  frozenset(range(6)))
    versions = _versions(study)
    sentences = ["The same recipe, seed and files give the same selected rows, whatever the number of workers; "
                 "trainings differ by rounding only."]
    if any((record.content["git_commit"] or "").endswith("+") for record in study.records):
        sentences.append("A + after a commit marks changes that were not committed.")
    if len(versions.columns) > 2:
        sentences.append("The artifacts were made under different package versions.")
    return Section(tuple(sentences), tables=(table, versions), extra={"recipes": recipes})


def _versions(study: Study) -> Table:
    """Return the package versions of the artifacts; a column for each set of them that differs."""
    found: list[dict[str, str]] = []
    for record in study.records:
        for step in record.steps:
            manifest = study.manifest(record.storage, step["stage"], step["fingerprint"])
            if manifest is not None and manifest["packages"] not in found:
                found.append(manifest["packages"])
    names = sorted({name for packages in found for name in packages})
    columns = ("package", *(f"version {i + 1}" if len(found) > 1 else "version" for i in range(len(found))))
    rows = tuple((name, *(packages.get(name, "-") for packages in found)) for name in names)
    return Table("Package versions", columns, rows, frozenset(range(len(columns))))
