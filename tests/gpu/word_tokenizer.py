"""A tokenizer whose words are w3, w4, … and stand for those ids; 0 is unknown, 1 ends a text, 2 pads."""


def save_word_tokenizer(folder, vocabulary):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<unk>", "<eos>", "<pad>"] + [f"w{i}" for i in range(3, vocabulary)]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<eos>", pad_token="<pad>", model_max_length=32768
    ).save_pretrained(folder)
