"""What options of the focus policy are worth: average precision with each less that without, with intervals.

    python benchmarks/policy_options.py --data bccd=BCCD --data sky=SKY --data potholes=POTHOLES

Each run of the plan (`policy_options.yaml`) goes on with the same model, which detects already, for the same
steps of the same pictures; how runs are kept, and several processes share them, as in `dial.py`. A row of the
table is a run less `plain`. Intervals are of 95 %, by a bootstrap over the pictures and the seeds that both
sides have (`compare`).
"""

from planned import main

if __name__ == "__main__":
    main(__file__, __doc__)
