"""A real transformer: tiny ones of Hugging Face, made from their configs."""

from __future__ import annotations

import copy
from pathlib import Path

import peft
import pytest
import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
    Wav2Vec2Config,
    Wav2Vec2ForCTC,
    Wav2Vec2ForSequenceClassification,
)

from mofgap.balora import AdaptedConv1D, BaLoRAConfig, BaLoRAModel, get_balora_model, lower_rank
from mofgap.balora.features import FrozenFeatures


def bert() -> BertForSequenceClassification:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    return BertForSequenceClassification(BertConfig(vocab_size=50, num_labels=3, **sizes))


def gpt2() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=30, n_positions=16, n_embd=16, n_layer=2, n_head=2))


def tokens(n: int = 4, length: int = 6, vocabulary: int = 30) -> dict[str, Tensor]:
    ids = torch.randint(3, vocabulary, (n, length), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0
    return {"input_ids": ids, "attention_mask": mask}


def perturb(model: BaLoRAModel) -> None:
    for layer in model.layers.values():
        nn.init.normal_(layer.lora_B, std=0.3)


def test_a_classifier_trains_and_predicts() -> None:
    model = get_balora_model(bert(), BaLoRAConfig(r=2, modules_to_save=("classifier",)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(3):
        output = model(**tokens(), labels=torch.tensor([0, 1, 2, 0]))
        (output.loss + model.kl_loss(n_train=4)).backward()
        optimizer.step()
        optimizer.zero_grad()
    logits, std = model.eval().predict(tokens())
    p, p_std = model.predict_proba(tokens())
    assert logits.shape == std.shape == p.shape == p_std.shape == (4, 3)
    torch.testing.assert_close(p.sum(1), torch.ones(4))
    torch.testing.assert_close(logits, model(**tokens()).logits.detach())
    assert (std > 0).all()


def test_padding_changes_neither_mean_nor_spread() -> None:
    model = get_balora_model(bert(), BaLoRAConfig(r=2, features="bert.encoder.layer.1.output.LayerNorm"))
    perturb(model)
    batch = tokens()
    short = {name: value[:1, :3] for name, value in batch.items()}
    padded = {name: torch.cat([value, value.new_zeros(1, 4)], 1) for name, value in short.items()}
    torch.testing.assert_close(model.eval().predict(short), model.predict(padded), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("make", [bert, gpt2])
def test_ours_loads_in_peft(make: type, tmp_path: Path) -> None:
    embedding = "word_embeddings" if make is bert else "wte"
    names = ("query", "value") if make is bert else ("c_attn", "c_proj")
    ours = get_balora_model(make(), BaLoRAConfig(r=2, target_modules=(*names, embedding)))
    perturb(ours)
    ours.eval().save_pretrained(tmp_path)
    expected = ours(**tokens()).logits
    theirs = peft.PeftModel.from_pretrained(make(), str(tmp_path)).eval()
    torch.testing.assert_close(theirs(**tokens()).logits, expected)
    if make is bert:  # PEFT merges an embedding into the language model's head that is tied to it
        merged = theirs.merge_and_unload()
        torch.testing.assert_close(merged(**tokens()).logits, expected, rtol=1e-4, atol=1e-5)
    merged = copy.deepcopy(ours).merge_and_unload()
    torch.testing.assert_close(merged(**tokens()).logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [bert, gpt2])
def test_a_lora_of_peft_is_our_mean(make: type, tmp_path: Path) -> None:
    names = ["query", "word_embeddings"] if make is bert else ["c_attn", "wte"]
    config = peft.LoraConfig(
        r=2, lora_alpha=3, target_modules=names, init_lora_weights=False, rank_pattern={names[0]: 4}
    )
    theirs = peft.get_peft_model(make(), config).eval()
    theirs.save_pretrained(str(tmp_path))
    ours = BaLoRAModel.from_pretrained(make(), tmp_path)
    torch.testing.assert_close(ours(**tokens()).logits, theirs(**tokens()).logits)


def distilbert() -> DistilBertForSequenceClassification:
    torch.manual_seed(0)
    sizes = {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24, "num_labels": 3}
    return DistilBertForSequenceClassification(DistilBertConfig(vocab_size=50, **sizes))


def test_heads_of_like_names_are_trained_whole_as_in_peft(tmp_path: Path) -> None:
    ours = get_balora_model(distilbert(), BaLoRAConfig(r=2, modules_to_save=("classifier",)))
    perturb(ours)
    assert "pre_classifier" not in ours.layers and ours.model.pre_classifier.trained.weight.requires_grad
    ours.eval().save_pretrained(tmp_path / "ours")
    loaded = peft.PeftModel.from_pretrained(distilbert(), str(tmp_path / "ours")).eval()
    torch.testing.assert_close(loaded(**tokens()).logits, ours(**tokens()).logits)
    config = peft.LoraConfig(
        r=2,
        target_modules=["q_lin"],
        task_type="SEQ_CLS",
        init_lora_weights=False,
        modules_to_save=["classifier"],
    )
    theirs = peft.get_peft_model(distilbert(), config).eval()
    theirs.save_pretrained(str(tmp_path / "theirs"))
    back = BaLoRAModel.from_pretrained(distilbert(), tmp_path / "theirs")
    torch.testing.assert_close(back(**tokens()).logits, theirs(**tokens()).logits)


def test_the_config_is_that_of_the_transformer_as_in_peft() -> None:
    model = get_balora_model(gpt2(), BaLoRAConfig(r=2))
    model.config.use_cache = False  # as the Trainer of transformers does
    assert not model.model.config.use_cache and model.balora_config.r == 2


def test_a_language_model_samples_whole_sequences() -> None:
    model = get_balora_model(gpt2(), BaLoRAConfig(r=2))
    assert all(isinstance(layer, AdaptedConv1D) for layer in model.layers.values())  # lm_head is left out
    perturb(model)
    mean, std = model.eval().predict(tokens(), samples=8)
    assert mean.shape == std.shape == (4, 6, 30)
    assert (std.mean(-1) > 0).all()


def test_positions_that_inputs_share_are_refused() -> None:
    model = get_balora_model(gpt2(), BaLoRAConfig(r=2, target_modules=("wpe",)))
    with pytest.raises(ValueError, match="batch-first"):
        model(**tokens())


@pytest.mark.parametrize("target", ["query", "embed_tokens", "lm_head"])
def test_what_peft_saves_beside_its_adapters_is_no_obstacle(target: str, tmp_path: Path) -> None:
    if target == "query":  # PEFT lists heads of other classifiers, too
        net, task, targets = bert(), "SEQ_CLS", ["query", "value"]
    else:
        sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
        config = LlamaConfig(vocab_size=50, num_key_value_heads=2, **sizes)
        net, task, targets = LlamaForCausalLM(config), "CAUSAL_LM", ["q_proj", target]
    base = copy.deepcopy(net)
    lora = peft.LoraConfig(r=2, task_type=task, target_modules=targets, init_lora_weights=False)
    theirs = peft.get_peft_model(net, lora).eval()
    theirs.save_pretrained(tmp_path)
    ours = BaLoRAModel.from_pretrained(base, tmp_path)
    torch.testing.assert_close(ours(**tokens()).logits, theirs(**tokens()).logits)


@pytest.mark.parametrize("targets", [["embed_tokens", "q_proj"], ["q_proj"]])
def test_a_vocabulary_that_grew_is_that_of_the_adapter(targets: list[str], tmp_path: Path) -> None:
    def grown(seed: int) -> LlamaForCausalLM:
        torch.manual_seed(0)
        sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
        net = LlamaForCausalLM(LlamaConfig(vocab_size=50, num_key_value_heads=2, **sizes))
        torch.manual_seed(seed)
        net.resize_token_embeddings(53, mean_resizing=False)
        return net

    trained = peft.get_peft_model(grown(1), peft.LoraConfig(target_modules=targets))
    trained.save_pretrained(tmp_path, save_embedding_layers=True)
    theirs = peft.PeftModel.from_pretrained(grown(2), str(tmp_path)).eval()
    ids = torch.tensor([[4, 50, 51, 52]])
    ours = BaLoRAModel.from_pretrained(grown(2), tmp_path)
    torch.testing.assert_close(ours(input_ids=ids).logits, theirs(input_ids=ids).logits)
    for _ in range(2):
        ours.save_pretrained(tmp_path / "ours")
        ours = BaLoRAModel.from_pretrained(grown(2), tmp_path / "ours")
        torch.testing.assert_close(ours(input_ids=ids).logits, theirs(input_ids=ids).logits)
    again = peft.PeftModel.from_pretrained(grown(2), str(tmp_path / "ours")).eval()
    torch.testing.assert_close(again(input_ids=ids).logits, theirs(input_ids=ids).logits)
    lower_rank(ours.layers, 2)
    for _ in range(2):
        ours.save_pretrained(tmp_path / "cut")
        ours = BaLoRAModel.from_pretrained(grown(2), tmp_path / "cut")
        torch.testing.assert_close(
            ours(input_ids=ids).logits, theirs(input_ids=ids).logits, rtol=1e-4, atol=1e-4
        )


def test_a_language_model_generates_at_its_mean() -> None:
    model = get_balora_model(gpt2(), BaLoRAConfig(r=2)).eval()
    perturb(model)
    how = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    found = model.generate(tokens()["input_ids"], **how)
    next_token = model(input_ids=tokens()["input_ids"]).logits[:, -1].argmax(1)
    assert found.shape == (4, 10) and torch.equal(found[:, 6], next_token)


def test_a_mask_of_samples_counts_in_frames() -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    few = {"conv_dim": (8, 8), "conv_stride": (5, 2), "conv_kernel": (10, 3), "num_feat_extract_layers": 2}
    made = Wav2Vec2Config(
        **sizes, **few, num_conv_pos_embedding_groups=2, feat_extract_norm="layer", num_conv_pos_embeddings=4
    )
    model = get_balora_model(Wav2Vec2ForCTC(made), BaLoRAConfig(r=2, target_modules=["q_proj"])).eval()
    x, mask = torch.randn(2, 400), torch.ones(2, 400, dtype=torch.int64)
    x[1, 300:], mask[1, 300:] = 0, 0
    alpha, _ = model._alpha_of((), {"input_values": x, "attention_mask": mask})
    longer = nn.functional.pad(x, (0, 100)), nn.functional.pad(mask, (0, 100))
    padded, _ = model._alpha_of((), {"input_values": longer[0], "attention_mask": longer[1]})
    torch.testing.assert_close(padded, alpha, rtol=1e-4, atol=0)
    made.classifier_proj_size = 8
    of_clips = get_balora_model(Wav2Vec2ForSequenceClassification(made), BaLoRAConfig(r=2)).eval()
    assert of_clips.predict(x, attention_mask=mask)[0].shape == (2, 2)


def test_a_mask_counts_wherever_it_stands_in_the_call() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bert, self.head = bert().bert, nn.Linear(16, 2)

        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
            hidden = self.bert(input_ids, attention_mask=attention_mask).last_hidden_state
            y: Tensor = self.head(hidden)[:, 0]
            return y

    model = get_balora_model(Masked(), BaLoRAConfig(r=2)).eval()
    perturb(model)
    batch = tokens()
    expected = model.predict(batch)
    torch.testing.assert_close(model.predict((batch["input_ids"], batch["attention_mask"])), expected)


def test_the_mask_of_an_encoder_is_not_that_of_its_decoder() -> None:
    config = T5Config(vocab_size=30, d_model=16, d_kv=8, d_ff=24, num_layers=1, num_heads=2)
    net = T5ForConditionalGeneration(config).eval()
    batch = tokens() | {"decoder_input_ids": tokens()["input_ids"]}
    of_decoder = FrozenFeatures(net, BaLoRAConfig())
    of_encoder = FrozenFeatures(net, BaLoRAConfig(features="encoder", n_features=16))
    hidden = net.decoder(
        input_ids=batch["decoder_input_ids"],
        encoder_hidden_states=net.encoder(**tokens()).last_hidden_state,
        encoder_attention_mask=batch["attention_mask"],
    ).last_hidden_state
    # T5 scales what its head reads.
    torch.testing.assert_close(of_decoder(net, (), batch, None), hidden.mean(1) * net.config.d_model**-0.5)
    left = net.encoder(**tokens()).last_hidden_state[1, :4]
    torch.testing.assert_close(of_encoder(net, (), batch, None)[1], left.mean(0))


class OfAnyCall(nn.Module):
    """A model with a decoder whose call names no argument."""

    config = T5Config(is_encoder_decoder=True)

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(30, 8), nn.Linear(8, 2)

    def forward(self, **batch: Tensor) -> Tensor:
        y: Tensor = self.head(self.embed(batch["decoder_input_ids"]))
        return y


def test_a_decoder_has_its_own_mask_in_a_call_of_any_names() -> None:
    net, batch = OfAnyCall(), tokens()
    ids, mask = batch["input_ids"], batch["attention_mask"]
    call = {"attention_mask": torch.ones_like(mask), "decoder_input_ids": ids, "decoder_attention_mask": mask}
    found = FrozenFeatures(net, BaLoRAConfig())(net, (), call, None)
    torch.testing.assert_close(found[1], net.embed(ids[1, :4]).mean(0))


class EncoderAlone(nn.Module):
    """As UMT5 for the classification of tokens, whose config says that there is a decoder."""

    config = T5Config(is_encoder_decoder=True)

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(30, 8), nn.Linear(8, 2)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        y: Tensor = self.head(self.embed(input_ids))
        return y


def test_an_encoder_alone_has_the_mask_of_its_tokens() -> None:
    net, batch = EncoderAlone(), tokens()
    short = {name: values[:, :4] for name, values in batch.items()}
    features = FrozenFeatures(net, BaLoRAConfig())
    torch.testing.assert_close(features(net, (), batch, None)[1], features(net, (), short, None)[1])


def test_the_trainer_divides_the_loss_by_the_batches_that_it_accumulates(tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason="Trainer needs it")
    from transformers import Trainer, TrainingArguments

    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, gradient_accumulation_steps=4)
    trainer = Trainer(model=get_balora_model(bert(), BaLoRAConfig(r=2)), args=arguments)
    assert not trainer.model_accepts_loss_kwargs
