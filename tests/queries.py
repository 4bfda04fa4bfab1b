"""Queries, with a text that each finds, and some with a text that it doesn't."""

# ruff: noqa: RUF001 - letters that look like others are among them

FOUND = {
    "NM_007294": "the transcript NM_007294.4 of BRCA1",
    "nm 007294": "the transcript NM_007294.4 of BRCA1",
    "68_69delAG": "c.68_69delAG (p.Glu23fs)",
    "Cas9": "SpCas9? No, cas9-VQR",
    "snp.vcf.gz": "see /data/snp.vcf.gz.tbi",
    "IL-6": "IL-6 and IL6",
    "il-6 AND": "IL-6 and IL6",
    "hjernecelle": "Hjernecellene dør",
    "ÅNGSTRÖM": "one a\u030angstro\u0308m",
    "angstrom": "2 Ångström",
    "smørbrød": "SMØRBRØD",
    "αΣΣ": "ἀσς",
    "β-actin": "the Β-Actin gene",
    "naïve T": "naive T cells",
    "ﬁbrin": "Fibrinogen",
    "①": "step 1",
    "細胞": "脳細胞は",
    "ゲ": "ケ\u3099ノム",
    "세포": "\u1109\u1166\u1111\u1169",
    "ТЕКСТ": "текст",
    "a": "an apple",
    "x" * 10_000: f"<{'x' * 10_000}>",
    '"quoted"': 'he said "quoted" words',
    "NEAR(a b)": "near a bee",
    "a OR b": "a or b",
    "c*": "c",
    "title:cas": "title: Cas9",
    "\0cas9\0": "cas9",
    "5'-ACGT-3'": "5′-ACGT-3′",
}

NOT_FOUND = {
    "Cas9": "SpCas9 and dCas9",
    "cas": "SpCas9",
    "as9": "cas9",
    "IL-6": "IL6",
    "cell brain": "brain cell",
    "brai cell": "brain cell",
    "ø": "oslo",
    "ge": "ケ",
}
