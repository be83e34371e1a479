"""A folder in the course's layout."""

import pytest

from tests.tfcap import caption_folders
from tfcap.data.coco import load_coco_data


@pytest.fixture(scope="session")
def course(tmp_path_factory):
    folder = tmp_path_factory.mktemp("course")
    return folder, caption_folders.write_course(folder)


@pytest.fixture(scope="session")
def loaded(course):
    return load_coco_data(course[0])
