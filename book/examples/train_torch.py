"""A training loop as PyTorch programs write it."""

import torch
from torch.nn.functional import cross_entropy


def learn(model, rows, recipe, epochs):
    """Train a model on rows (n, T + 1) of tokens; the mean loss of each pass over them."""
    optimizer = torch.optim.AdamW(
        model.parameters(), recipe.learning_rate, (recipe.beta1, recipe.beta2), recipe.epsilon, recipe.decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: recipe.rate_of(step) / recipe.learning_rate)
    means = []
    model.train()
    for _ in range(epochs):
        losses = []
        for tokens in torch.from_numpy(rows).split(recipe.rows):
            logits = model(tokens[:, :-1])  # (B, T, V)
            loss = cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        means.append(sum(losses) / len(losses))
    model.eval()
    return means
