"""Print, as JSON for the bare program, the patches that the program would register for a stack."""

import json
import sys
from pathlib import Path

import yaml

from archshift.settings import stack as stack_settings
from archshift.survey import survey


def main() -> None:
    """Read the stack's configuration file and the cluster, and print the patches."""
    config = yaml.safe_load(Path(sys.argv[1]).read_text())["config"]
    text = {key: value if isinstance(value, str) else json.dumps(value) for key, value in config.items()}
    stack = stack_settings.load(sys.argv[2], text)
    plan = survey(stack).plan
    patches = []
    for workload in plan.workloads:
        if workload.patch:
            metadata = workload.patch["metadata"]
            annotations = {"pulumi.com/patchFieldManager": stack.field_manager}
            patches.append(
                {
                    "name": workload.key,
                    "metadata": {**metadata, "annotations": annotations},
                    "spec": workload.patch["spec"],
                }
            )
    json.dump(patches, sys.stdout)


if __name__ == "__main__":
    main()
