"""Chapter 6: text becomes token ids, and token ids become text.

In: text. Out: token ids, below 51,866. Byte-pair encoding is in ``bpe``; ``special_tokens`` and ``languages`` hold the
tokens that stand for a language, a task or a timestamp; ``vocabulary`` reads the files; ``tokenizer`` joins them.

Walkthrough: section 8.
"""
