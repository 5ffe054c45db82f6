"""The tasks a bundle may hold."""

from assay_deploy.tasks.classification import Prediction
from assay_deploy.tasks.detection import Detected
from assay_deploy.tasks.result import Unreadable

Result = Prediction | Detected | Unreadable
