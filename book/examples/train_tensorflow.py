"""Training as Keras programs write it: compile and fit."""

import keras


def learn(model, rows, recipe, epochs):
    """Train a model on rows (n, T + 1) of tokens; the mean loss of each pass over them."""
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=recipe.learning_rate / recipe.warmup,
        decay_steps=recipe.steps - recipe.warmup,
        alpha=recipe.floor,
        warmup_target=recipe.learning_rate,
        warmup_steps=recipe.warmup,
    )
    optimizer = keras.optimizers.AdamW(
        schedule, recipe.decay, recipe.beta1, recipe.beta2, recipe.epsilon, global_clipnorm=recipe.clip
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=optimizer, loss=loss)
    history = model.fit(rows[:, :-1], rows[:, 1:], recipe.rows, epochs, verbose=0, shuffle=False)
    return history.history["loss"]
