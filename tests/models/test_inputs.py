"""What is no batch of images is refused in words, by the model, its deployed form and an exported one."""

import numpy as np
import pytest
import torch

from focus_detr import FocusDetrForObjectDetection, FocusDetrImageProcessor
from focus_detr.deploy.deploy import deploy
from focus_detr.errors import FocusDetrError
from focus_detr.export.detector import ExportedDetector

IMAGES = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
WHOLE = torch.ones(2, 64, 96, dtype=torch.uint8)


class Session:
    """Stands for an exported graph of any size."""

    class metadata:
        image_size, batch_size = None, None
        processor = staticmethod(lambda: None)

    def run(self, pixel_values):
        return np.zeros((len(pixel_values), 4, 2), "f4"), np.zeros((len(pixel_values), 4, 4), "f4")


@pytest.fixture(scope="module")
def forms(tiny_model):
    eager = FocusDetrForObjectDetection.from_pretrained(tiny_model).eval()
    exported = ExportedDetector(Session())
    return {"eager": eager, "deployed": deploy(eager), "exported": exported.infer}


@pytest.mark.parametrize("form", ["eager", "deployed", "exported"])
@pytest.mark.parametrize(
    ("images", "mask", "message"),
    [
        (IMAGES[:0], None, "holds no image"),
        (IMAGES[:0], WHOLE[:0], "holds no image"),
        (IMAGES[..., :0], None, "holds no image"),
        (IMAGES, WHOLE * 0, "image 0 of the batch has no pixels"),
        (IMAGES, WHOLE * torch.tensor([1, 0], dtype=torch.uint8)[:, None, None], "image 1 of the batch"),
        (IMAGES, WHOLE[:1], r"pixel_mask of shape \(1, 64, 96\): must be \(2, 64, 96\)"),
        (IMAGES, WHOLE[:, :, :90], "pixel_mask of shape"),
        (IMAGES[0], None, r"must be normalised images \(B,3,H,W\)"),
        (IMAGES[:, :1], None, r"must be normalised images \(B,3,H,W\)"),
        (IMAGES.to(torch.uint8), None, "type uint8: must be normalised images"),
    ],
)
def test_what_is_no_batch_of_images_is_refused(forms, form, images, mask, message):
    with pytest.raises(FocusDetrError, match=message), torch.no_grad():
        forms[form](images, mask)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.int64, torch.float32])
def test_a_mask_of_any_type_says_the_same(forms, dtype):
    mask = WHOLE.clone()
    mask[1, 50:] = 0
    with torch.no_grad():
        expected = forms["eager"](IMAGES, mask.long()).logits
        assert torch.equal(forms["eager"](IMAGES, mask.to(dtype)).logits, expected)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("form", ["eager", "deployed"])
def test_a_pixel_that_is_no_number_harms_its_own_image_alone(forms, form, value):
    broken = IMAGES.clone()
    broken[0, 0, 3, 3] = value
    with torch.no_grad():
        good, bad = (forms[form](images, WHOLE) for images in (IMAGES, broken))
    torch.testing.assert_close(bad.logits[1], good.logits[1])
    # No traceback and no boxes of no number.
    found = FocusDetrImageProcessor().post_process_object_detection(bad, threshold=0.0)
    assert all(torch.isfinite(each["boxes"]).all() for each in found)
