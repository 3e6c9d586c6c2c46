"""Both simulators write their sets all or nothing."""

import pytest

from gan_utils.simulation.brains import write_simulated_brains
from gan_utils.simulation.knees import write_drawn_knees

both = pytest.mark.parametrize("write", [write_simulated_brains, write_drawn_knees])


@both
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_interruption_leaves_nothing(tmp_path, write, error):
    def interrupt(done, total):
        if done == 1:
            raise error

    with pytest.raises(error):
        write(tmp_path / "made", 32, 4, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


@both
def test_existing_folder_is_left_alone(tmp_path, write):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(FileExistsError, match="delete it"):
        write(tmp_path, 32, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
