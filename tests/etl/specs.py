"""A small spec made by hand, for tests that need one and no build."""

from typing import Any

from m2m_model.contracts.spec import DatasetSpec


def bucket(name: str, edges: int, **more: Any) -> dict[str, Any]:
    return {"kind": "bucket", "name": name, "expr": "x", "edges": [float(edge) for edge in range(edges)]} | more


def small_spec() -> DatasetSpec:
    column = {"table": "performance", "scope": "own"}
    return DatasetSpec.model_validate(
        {
            "timezone": "UTC",
            "sequence_length": 10,
            "horizon": 7,
            "availability_lag_days": 0,
            "history_weeks": 1,
            "advertiser_id_type": "string",
            "scenarios": ["feed"],
            "behavior": [bucket("bids", 2, **column)],
            "performance": [bucket("clicks", 1, **column), bucket("spend", 3, **column)],
            "profile": [{"kind": "vocabulary", "name": "tier", "expr": "tier", "values": ["a", "b"]}],
            "scenario_attributes": [bucket("traffic", 1), bucket("age", 2)],
            "tasks": [
                {
                    "name": "clicks",
                    "unit": "clicks",
                    "table": "performance",
                    "expr": "sum(clicks)",
                    "scale": 0,
                    "mean_label": 2.5,
                    "max_label": 9.0,
                }
            ],
            "activity": {"table": "performance", "expr": "count(*) > 0", "min_active_days": 1},
        }
    )
