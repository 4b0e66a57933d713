"""Reads OpenMetrics from standard input with the strict parser of prometheus-client, and prints the names of the families.

Exit code 0 when it is OpenMetrics, 1 when not.
"""

import sys

from prometheus_client.openmetrics.parser import text_string_to_metric_families

try:
    for family in text_string_to_metric_families(sys.stdin.read()):
        print(family.name)
except ValueError as error:
    sys.exit(f"not OpenMetrics: {error}")
