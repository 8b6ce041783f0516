"""Makes the models known to transformers: after `import focus_detr.auto` its Auto classes load them."""

from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageSegmentation,
    AutoModelForInstanceSegmentation,
    AutoModelForObjectDetection,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_INSTANCE_SEGMENTATION_MAPPING_NAMES,
    MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES,
)

from focus_detr.images.processor import FocusDetrImageProcessor
from focus_detr.models import FocusDetrForInstanceSegmentation, FocusDetrForObjectDetection
from focus_detr.models.configuration import FocusDetrConfig

# Pipelines warn of models whose names are not in this list.
MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES["focus_detr"] = "FocusDetrForObjectDetection"
MODEL_FOR_INSTANCE_SEGMENTATION_MAPPING_NAMES["focus_detr"] = "FocusDetrForInstanceSegmentation"

AutoConfig.register("focus_detr", FocusDetrConfig, exist_ok=True)
AutoModel.register(FocusDetrConfig, FocusDetrForObjectDetection, exist_ok=True)
AutoModelForObjectDetection.register(FocusDetrConfig, FocusDetrForObjectDetection, exist_ok=True)
# The pipeline "image-segmentation" asks the first of these.
AutoModelForImageSegmentation.register(FocusDetrConfig, FocusDetrForInstanceSegmentation, exist_ok=True)
AutoModelForInstanceSegmentation.register(FocusDetrConfig, FocusDetrForInstanceSegmentation, exist_ok=True)
AutoImageProcessor.register(
    FocusDetrConfig, image_processor_classes={"pil": FocusDetrImageProcessor}, exist_ok=True
)
