"""The model store: names, manifests, where models come from and how they get here.

To read: `store.ModelStore`. To fetch: `pull.pull`. Neither imports OpenVINO, transformers or
huggingface_hub before it must, because the API process imports the store and stays small.
"""
