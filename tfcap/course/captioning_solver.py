"""``cs231n.captioning_solver``: the course's training, by Keras's `fit`."""

from collections.abc import Iterator, Mapping
from typing import Any

from tfcap.course.classifiers.rnn import CaptioningRNN
from tfcap.data.coco import sample_coco_minibatch
from visualization.backend import keras

__all__ = ["CaptioningSolver"]


class CaptioningSolver:
    """Trains a captioner on captions that `sample_coco_minibatch` draws.

    Args:
        model: its `params` are trained.
        data: what `load_coco_data` returned.
        update_rule: "sgd", "sgd_momentum", "rmsprop" or "adam".
        optim_config: the rule's settings under the course's names: learning_rate, momentum, decay_rate,
            beta1, beta2, epsilon.
        lr_decay: what the learning rate is multiplied by after every epoch.
        batch_size: captions in a step.
        num_epochs: an epoch has as many steps as there are whole batches, one at least.
        print_every: how many steps lie between the losses that are printed.
        verbose: print them.

    Attributes:
        loss_history: the loss of each step, a list of float.

    Raises:
        ValueError: there is no such update rule or setting.

    Example:
        >>> from tfcap import load_coco_data, make_shapes
        >>> _ = make_shapes("shapes", train=10, val=2)
        >>> data = load_coco_data("shapes", max_train=8)
        >>> model = CaptioningRNN(data["word_to_idx"], 512, 8, 8)
        >>> solver = CaptioningSolver(model, data, num_epochs=2, batch_size=4, verbose=False)
        >>> solver.train()
        >>> len(solver.loss_history)
        4
    """

    def __init__(
        self,
        model: CaptioningRNN,
        data: Mapping[str, Any],
        *,
        update_rule: str = "sgd",
        optim_config: Mapping[str, float] | None = None,
        lr_decay: float = 1.0,
        batch_size: int = 100,
        num_epochs: int = 10,
        print_every: int = 10,
        verbose: bool = True,
    ) -> None:
        self.model, self.data, self.batch_size = model, data, batch_size
        self.lr_decay, self.num_epochs = lr_decay, num_epochs
        self.print_every, self.verbose = print_every, verbose
        self.loss_history: list[float] = []
        model.network.compile(_optimizer(update_rule, optim_config or {}))

    def train(self) -> None:
        """Runs all epochs, and leaves the trained weights in the model's `params`."""
        network = self.model.network
        steps = max(len(self.data["train_captions"]) // self.batch_size, 1)
        self.model.load_params(self.model.params)
        network.fit(
            self._batches(),
            steps_per_epoch=steps,
            epochs=self.num_epochs,
            callbacks=[_Steps(self, steps * self.num_epochs)],
            shuffle=False,
            verbose=0,
        )
        self.model.read_params()

    def _batches(self) -> Iterator[tuple[Any, Any]]:
        while True:
            captions, features, _ = sample_coco_minibatch(self.data, self.batch_size)
            yield features, captions


class _Steps(keras.callbacks.Callback):
    """Keeps and prints the losses of single steps; `fit` by itself gives their mean so far."""

    def __init__(self, solver: CaptioningSolver, total: int) -> None:
        super().__init__()
        self.solver, self.total, self.step = solver, total, 0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.model.reset_metrics()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.solver.loss_history.append(loss := float(logs["loss"]))
        if self.solver.verbose and self.step % self.solver.print_every == 0:
            print(f"(Iteration {self.step + 1} / {self.total}) loss: {loss:f}")
        self.step += 1

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        optimizer = self.model.optimizer
        optimizer.learning_rate = float(optimizer.learning_rate) * self.solver.lr_decay


# Keras's optimizer for each rule, its name of each of the course's settings, and the course's default
_RULES: dict[str, tuple[Any, dict[str, tuple[str, float]]]] = {
    "sgd": (keras.optimizers.SGD, {"learning_rate": ("learning_rate", 1e-2)}),
    "sgd_momentum": (
        keras.optimizers.SGD,
        {"learning_rate": ("learning_rate", 1e-2), "momentum": ("momentum", 0.9)},
    ),
    "rmsprop": (
        keras.optimizers.RMSprop,
        {
            "learning_rate": ("learning_rate", 1e-2),
            "decay_rate": ("rho", 0.99),
            "epsilon": ("epsilon", 1e-8),
        },
    ),
    "adam": (
        keras.optimizers.Adam,
        {
            "learning_rate": ("learning_rate", 1e-3),
            "beta1": ("beta_1", 0.9),
            "beta2": ("beta_2", 0.999),
            "epsilon": ("epsilon", 1e-8),
        },
    ),
}


def _optimizer(update_rule: str, optim_config: Mapping[str, float]) -> keras.optimizers.Optimizer:
    if update_rule not in _RULES:
        raise ValueError(
            f"update_rule must be one of {', '.join(_RULES)}, received {update_rule!r}"
        )
    optimizer, settings = _RULES[update_rule]
    if unknown := sorted(set(optim_config) - set(settings)):
        raise ValueError(
            f"optim_config of {update_rule} takes {', '.join(settings)}, received "
            f"{', '.join(unknown)}"
        )
    return optimizer(
        **{name: optim_config.get(key, default) for key, (name, default) in settings.items()}
    )
