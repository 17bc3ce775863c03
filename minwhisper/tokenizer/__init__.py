"""Chapter 6: from text to token ids, and back.

In: a string. Out: a list of token ids, each below 51,866. Read ``bpe`` (byte-pair encoding) first, then
``special_tokens`` and ``languages`` (the tokens for languages, tasks and timestamps), ``vocabulary`` (the files of a
vocabulary) and ``tokenizer``, which combines them.

Walkthrough: section 8.
"""
