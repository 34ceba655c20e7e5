//! German. Articles stay: their endings say who does what to whom.

use super::{Class, Lists};

pub(crate) const LISTS: Lists = Lists {
    openings: &[
        "hallo zusammen", "hallo", "hi", "guten tag", "guten morgen", "guten abend", "moin", "servus", "grüß gott",
        "grüezi", "entschuldigung", "bitte", "ich habe eine frage", "eine frage", "können sie mir bitte sagen",
        "können sie mir sagen", "könnten sie mir bitte sagen", "könnten sie mir sagen", "kannst du mir bitte sagen",
        "kannst du mir sagen", "könntest du mir sagen", "sagen sie mir bitte", "sagen sie mir", "sag mir",
        "ich möchte wissen", "ich würde gerne wissen", "ich wüsste gerne", "wissen sie", "weißt du",
    ],
    endings: &[
        "vielen dank in dem voraus", "danke in dem voraus", "vielen lieben dank", "vielen dank", "danke schön", "dankeschön",
        "danke sehr", "herzlichen dank", "danke", "bitte", "mit freundlichen grüßen", "freundliche grüße",
        "viele grüße", "liebe grüße", "lg", "mfg", "vg",
    ],
    contractions: &[
        ("gibt's", "gibt es"), ("geht's", "geht es"), ("wie's", "wie es"), ("ist's", "ist es"), ("zum", "zu dem"),
        ("zur", "zu der"), ("im", "in dem"), ("ins", "in das"), ("am", "an dem"), ("vom", "von dem"),
        ("beim", "bei dem"), ("fürs", "für das"), ("ans", "an das"),
    ],
    frames: &[("ist es möglich", "kann ich"), ("ist es mir möglich", "kann ich"), ("bin ich verpflichtet", "muss ich")],
    stops: &["ist", "sind", "bitte", "mal", "denn"],
    classes: &[
        (Class::Number, &[
            "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "null", "hundert", "tausend", "million",
            "halb", "doppelt", "zweit", "dritt", "viert",
        ]),
        (Class::Unit, &[
            "euro", "dollar", "pfund", "franken", "cent", "usd", "eur", "chf", "sekunde", "minut", "stund",
            "stunde", "tag", "tage", "tagen", "woche", "monat", "quartal", "jahr", "jahre", "jahren", "prozent", "mb",
            "gb", "tb", "mm", "cm", "meter", "km", "gramm", "kg", "liter", "grad", "monatlich", "jährlich", "täglich",
            "wöchentlich", "brutto", "netto",
        ]),
        (Class::Negation, &[
            "nicht", "kein", "keine", "keinen", "keinem", "keiner", "keines", "nie", "niemals", "niemand", "nichts",
            "nirgends", "ohne", "weder", "noch", "kaum", "statt",
        ]),
        (Class::Time, &[
            "montag", "dienstag", "mittwoch", "donnerstag", "freitag", "samstag", "sonntag", "januar", "februar",
            "märz", "april", "mai", "juni", "juli", "august", "september", "oktober", "november", "dezember", "heute",
            "morgen", "gestern", "übermorgen", "jetzt", "vor", "nach", "seit", "bis", "während", "ab", "vormittag",
            "nachmittag", "abend", "nacht", "mittag", "erst", "ersten", "erste", "letzte", "letzten", "nächste",
            "nächsten", "vorher", "nachher", "früh", "spät", "schon", "bereits", "bald", "wieder", "innerhalb",
        ]),
        (Class::Quantifier, &[
            "alle", "allen", "aller", "alles", "einige", "jeder", "jede", "jedes", "jeden", "beide", "beiden", "nur",
            "außer", "manche", "viele", "viel", "wenige", "wenig", "mehrere", "jemand", "etwas", "genug", "immer", "oft",
            "manchmal", "auch", "sogar", "fast", "genau", "etwa", "ungefähr", "andere", "anderen", "gleiche", "selbst",
        ]),
        (Class::Question, &[
            "wer", "wem", "wen", "wessen", "was", "welche", "welcher", "welches", "welchen", "welchem", "wann", "wo",
            "wohin", "woher", "warum", "wieso", "weshalb", "wie", "ob", "wenn", "falls", "wofür", "womit", "wozu",
        ]),
        (Class::Modality, &[
            "kann", "können", "kannst", "könnte", "könnten", "darf", "dürfen", "darfst", "dürfte", "muss", "müssen",
            "musst", "müsste", "soll", "sollen", "sollte", "sollten", "will", "wollen", "möchte", "brauche",
            "möglich", "erlaubt", "nötig", "verpflichtet", "verboten",
        ]),
        (Class::Person, &[
            "ich", "mich", "mir", "mein", "meine", "meinen", "meinem", "meiner", "meines", "wir", "uns", "unser",
            "unsere", "unseren", "unserem", "unserer", "du", "dich", "dir", "dein", "deine", "deinen", "deinem",
            "deiner", "sie", "ihr", "ihre", "ihren", "ihrem", "ihrer", "ihnen", "ihm", "ihn", "er", "es", "sein",
            "seine", "seinen", "seinem", "seiner", "man",
        ]),
        (Class::Tense, &[
            "war", "waren", "wurde", "wurden", "wird", "werden", "werde", "hat", "haben", "habe", "hatte", "hatten",
            "worden", "gewesen",
        ]),
        (Class::Comparison, &[
            "mehr", "weniger", "meisten", "wenigsten", "besser", "beste", "besten", "höher", "höchste", "höchsten",
            "größer", "größte", "kleiner", "kleinste", "günstiger", "günstigste", "günstigsten", "billiger",
            "billigste", "teurer", "teuerste", "teuersten", "schneller", "schnellste", "länger", "kürzer", "früher",
            "später", "maximal", "minimal", "mindestens", "höchstens", "als",
        ]),
        (Class::Direction, &[
            "von", "zu", "aus", "in", "an", "auf", "über", "unter", "mit", "für", "gegen", "durch", "zwischen", "hinter",
            "neben", "um", "bei", "und", "oder", "pro", "per", "hinzu", "weg", "ein", "zurück",
        ]),
        (Class::Loose, &["dass"]),
    ],
    alike: &[
        ("wie viel kostet", "was kostet"), ("wieviel kostet", "was kostet"), ("wieviele", "wie viele"),
        ("wieviel", "wie viel"), ("pro monat", "in dem monat"), ("pro jahr", "in dem jahr"), ("weshalb", "warum"),
        ("wieso", "warum"), ("e mail", "email"), ("mail", "email"), ("zwei", "2"), ("drei", "3"), ("vier", "4"),
        ("fünf", "5"), ("sechs", "6"), ("sieben", "7"), ("acht", "8"), ("neun", "9"), ("zehn", "10"), ("elf", "11"),
        ("zwölf", "12"), ("geöffnet", "offen"), ("geschlossen", "zu"), ("einloggen", "anmelden"),
        ("ausloggen", "abmelden"), ("löschen", "entfernen"), ("handy", "mobiltelefon"), ("firma", "unternehmen"),
        ("chef", "vorgesetzter"), ("lohn", "gehalt"), ("billigste", "günstigste"), ("billigsten", "günstigsten"),
        ("billiger", "günstiger"),
    ],
    contraries: &[
        ("aktiviere", "deaktiviere"), ("aktivier", "deaktivier"), ("offen", "zu"), ("kaufen", "verkaufen"),
        ("kauf", "verkauf"), ("vor", "nach"), ("von", "zu"), ("über", "unter"), ("mit", "ohne"), ("für", "gegen"),
        ("importier", "exportier"), ("start", "ende"), ("beginn", "ende"), ("anmeld", "abmeld"),
        ("öffn", "schließ"), ("hinzufüg", "entfern"), ("erstell", "lösch"), ("erhöh", "senk"), ("alt", "neu"),
        ("kündig", "verlänger"), ("buche", "storniere"), ("buch", "stornier"), ("brutto", "netto"),
        ("intern", "extern"), ("früh", "spät"), ("mehr", "weniger"), ("günstigsten", "teuersten"), ("heute", "morgen"),
        ("annehm", "ablehn"), ("genehmigt", "abgelehnt"), ("einnahm", "ausgab"), ("eingang", "ausgang"),
    ],
    turning: &["un", "in", "nicht", "de", "ent"],
    owner: None,
    articles: &["der", "die", "das", "den", "dem", "des", "ein", "eine", "einen", "einem", "einer", "eines"],
    capitals_are_names: false,
    polite_capitals: &["sie", "ihr", "ihre", "ihren", "ihrem", "ihrer", "ihres", "ihnen"],
};
