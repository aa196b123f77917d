"""Load: open-loop traffic from a scenario and a seed, put on the input topics at moments fixed beforehand."""
