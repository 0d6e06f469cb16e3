"""Requests: to ``/classify`` and ``/anomaly_score``, from an unread body to the answer. Nothing here knows BentoML."""
