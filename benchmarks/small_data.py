"""What a training of ten minutes is worth by one start and recipe and another, on small sets.

    python benchmarks/small_data.py --data bccd=BCCD --data potholes=POTHOLES

Each run of the plan (`small_data.yaml`) has the steps that ten minutes of two CPU cores are, as `focus-detr
train DATA --time 10m` fits them on a quiet machine; trained on a GPU, it is the same run sooner. What is
finished stays and what was stopped is resumed. A row of the table is a run less the one that it names
`against`, with intervals of 95 % by a bootstrap over the pictures and the seeds that both have (`compare`).
"""

from planned import main

if __name__ == "__main__":
    main(__file__, __doc__)
