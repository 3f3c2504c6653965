//! The English topics.

use super::Topic;
use crate::random::Random;

pub const TOPICS: [Topic; 9] = [animal, city, sum, purchase, how_to, diary, comparison, lost_and_found, tool];

struct Animal {
    name: &'static str,
    kind: &'static str,
    place: &'static str,
    food: &'static str,
    habit: &'static str,
}

const fn a(
    name: &'static str,
    kind: &'static str,
    place: &'static str,
    food: &'static str,
    habit: &'static str,
) -> Animal {
    Animal { name, kind, place, food, habit }
}

const ANIMALS: [Animal; 20] = [
    a("otter", "mammal", "in clean rivers", "fish and crabs", "it floats on its back when it rests"),
    a("giant panda", "bear", "in the mountains of western China", "bamboo", "it spends most of the day eating"),
    a("camel", "mammal", "in dry deserts", "thorny plants", "it can go for a week without water"),
    a("penguin", "bird", "on cold southern coasts", "small fish", "it swims but cannot fly"),
    a("owl", "bird", "in old trees", "mice", "it hunts at night without a sound"),
    a("crane", "bird", "in wide wetlands", "roots, insects and frogs", "it dances before it nests"),
    a("honeybee", "insect", "in a hive", "nectar and pollen", "it tells the others where flowers are with a dance"),
    a("ant", "insect", "under the ground", "seeds and sweet sap", "it carries far more than its own weight"),
    a("green turtle", "reptile", "in warm seas", "sea grass", "it returns to the beach where it hatched"),
    a("gecko", "reptile", "on walls and rocks", "moths and flies", "it climbs glass with its sticky feet"),
    a(
        "salmon",
        "fish",
        "in the sea and in cold streams",
        "shrimp and small fish",
        "it swims up the river to lay its eggs",
    ),
    a("frog", "amphibian", "near quiet ponds", "flies and worms", "it starts life as a tadpole"),
    a("bat", "mammal", "in caves", "moths", "it finds its way by listening to echoes"),
    a("beaver", "mammal", "in forest streams", "bark and leaves", "it builds dams from branches"),
    a("kangaroo", "mammal", "on the plains of Australia", "grass", "it carries its young in a pouch"),
    a("squirrel", "mammal", "in oak woods", "nuts", "it buries food for the winter"),
    a("hedgehog", "mammal", "in gardens and hedges", "beetles and slugs", "it rolls into a ball when it is afraid"),
    a("yak", "mammal", "on the high plateau of Tibet", "grass and moss", "its long hair keeps it warm"),
    a("dolphin", "mammal", "in the open sea", "fish and squid", "it breathes air like we do"),
    a("swallow", "bird", "under the roofs of barns", "flying insects", "it flies south in autumn"),
];

fn animal(random: &mut Random) -> String {
    let Animal { name, kind, place, food, habit } = random.pick(&ANIMALS);
    let article = if name.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    let kind_article = if kind.starts_with(['a', 'i']) { "an" } else { "a" };
    match random.index(4) {
        0 => format!("The {name} is {kind_article} {kind} that lives {place}. It eats {food}, and {habit}."),
        1 => format!(
            "Question: Where does the {name} live, and what does it eat?\nAnswer: It lives {place} and eats {food}."
        ),
        2 => format!("Look closely {place}, and you may find {article} {name}. This {kind} eats {food}; {habit}."),
        _ => format!("What do we know about the {name}? It is {kind_article} {kind}, it lives {place}, and {habit}."),
    }
}

/// (city, country, water, what it is known for)
const CITIES: [(&str, &str, &str, &str); 18] = [
    ("Lisbon", "Portugal", "the Tagus", "its yellow trams"),
    ("Paris", "France", "the Seine", "its museums and cafés"),
    ("Vienna", "Austria", "the Danube", "its concert halls"),
    ("Cairo", "Egypt", "the Nile", "the pyramids nearby"),
    ("London", "England", "the Thames", "its bridges and parks"),
    ("Prague", "the Czech Republic", "the Vltava", "its old clock"),
    ("Rome", "Italy", "the Tiber", "its fountains"),
    ("Seoul", "South Korea", "the Han", "its night markets"),
    ("Bangkok", "Thailand", "the Chao Phraya", "its floating markets"),
    ("Hanoi", "Vietnam", "the Red River", "its noodle soup"),
    ("Baghdad", "Iraq", "the Tigris", "its bookshops"),
    ("Budapest", "Hungary", "the Danube", "its hot baths"),
    ("Shanghai", "China", "the Huangpu", "its tall towers"),
    ("Wuhan", "China", "the Yangtze", "its cherry blossom"),
    ("Guangzhou", "China", "the Pearl River", "its dim sum"),
    ("Lanzhou", "China", "the Yellow River", "its beef noodles"),
    ("Cologne", "Germany", "the Rhine", "its great cathedral"),
    ("Montreal", "Canada", "the Saint Lawrence", "its jazz festival"),
];

fn city(random: &mut Random) -> String {
    let (city, country, water, known) = random.pick(&CITIES);
    let name = random.pick(&NAMES).0;
    match random.index(4) {
        0 => format!("{city} is a city in {country}. It lies on {water} and is known for {known}."),
        1 => format!(
            "Question: Which river flows through {city}?\nAnswer: {} flows through {city}, a city in {country}.",
            capital(water)
        ),
        2 => format!("{name} spent a week in {city}, walked along {water}, and wrote home about {known}."),
        _ => format!("Many people who travel to {country} visit {city} because of {known}."),
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// (name, "he" or "she", "his" or "her")
const NAMES: [(&str, &str, &str); 14] = [
    ("Anna", "she", "her"),
    ("Tom", "he", "his"),
    ("Li Wei", "he", "his"),
    ("Maria", "she", "her"),
    ("Omar", "he", "his"),
    ("Grace", "she", "her"),
    ("Peter", "he", "his"),
    ("Mei", "she", "her"),
    ("David", "he", "his"),
    ("Nora", "she", "her"),
    ("Ivan", "he", "his"),
    ("Lucy", "she", "her"),
    ("Sam", "he", "his"),
    ("Hana", "she", "her"),
];

const COUNTED: [&str; 12] = [
    "apples",
    "pencils",
    "stamps",
    "marbles",
    "books",
    "eggs",
    "candles",
    "shells",
    "postcards",
    "buttons",
    "coins",
    "plums",
];

fn sum(random: &mut Random) -> String {
    let ((name, pronoun, _), (other, ..)) = random.pick_two(&NAMES);
    let things = random.pick(&COUNTED);
    let (first, second) = (random.between(2, 12), random.between(2, 9));
    match random.index(4) {
        0 => format!(
            "{name} has {first} {things} and buys {second} more. Now {pronoun} has {} {things}.",
            first + second
        ),
        1 => {
            let all = first + second;
            format!(
                "{name} had {all} {things} and gave {second} of them to {other}. {} has {first} left.",
                capital(pronoun)
            )
        }
        2 => format!(
            "There are {first} boxes on the shelf, and each box holds {second} {things}. {first} times {second} is {}, \
             so there are {} {things} in all.",
            first * second,
            first * second
        ),
        _ => format!("{name} and {other} share {} {things} equally. Each of them gets {first} {things}.", first * 2),
    }
}

const FRUIT: [&str; 10] =
    ["pears", "oranges", "peaches", "tomatoes", "grapes", "carrots", "mushrooms", "lemons", "cherries", "potatoes"];

fn purchase(random: &mut Random) -> String {
    let fruit = random.pick(&FRUIT);
    let (price, kilos) = (random.between(2, 9), random.between(2, 6));
    let (city, ..) = random.pick(&CITIES);
    let (hour, platform) = (random.between(6, 11), random.between(1, 12));
    match random.index(3) {
        0 => format!(
            "Customer: Good morning. How much are the {fruit}?\nSeller: They are {price} yuan a kilo.\n\
             Customer: {kilos} kilos, please.\nSeller: That makes {} yuan. Thank you.",
            price * kilos
        ),
        1 => format!(
            "Traveller: When does the next train to {city} leave?\nClerk: At {hour} o'clock, from platform {platform}.\n\
             Traveller: How much is a ticket?\nClerk: It is {} yuan.",
            price * 10
        ),
        _ => format!(
            "Guest: Do you have a table for {kilos}?\nWaiter: Yes, by the window. Today we have fresh {fruit}.\n\
             Guest: Good. {} plates of them, please.",
            capital(NUMBERS[kilos as usize])
        ),
    }
}

const NUMBERS: [&str; 7] = ["no", "one", "two", "three", "four", "five", "six"];

/// (task, first step, second step, last step)
const TASKS: [(&str, &str, &str, &str); 16] = [
    ("make green tea", "boil the water", "let it cool for two minutes", "pour it over the leaves"),
    ("cook rice", "wash the grains", "add one and a half cups of water for each cup", "let it simmer with the lid on"),
    ("boil an egg", "put the egg into cold water", "heat it until it boils", "wait eight minutes"),
    ("plant a tree", "dig a wide hole", "set the roots in and fill it with soil", "water it well"),
    ("mend a flat tyre", "take the wheel off", "find the hole and glue a patch on it", "pump the tyre up again"),
    ("write a letter", "put the date at the top", "say what you want to say in plain words", "sign your name"),
    ("paint a wall", "clean it", "cover the edges with tape", "roll on two thin coats"),
    ("wash a woollen jumper", "fill a basin with cool water", "press the soap through it gently", "dry it flat"),
    ("bake bread", "mix flour, water, salt and yeast", "let the dough rise", "bake it until the crust is brown"),
    ("sharpen a knife", "wet the stone", "draw the blade along it at a low angle", "test it on paper"),
    ("fold a paper boat", "fold the sheet in half", "bring the corners to the middle", "open it from below"),
    ("sew on a button", "thread the needle", "go through each hole several times", "tie a knot at the back"),
    ("keep a plant alive", "give it light", "water it when the soil is dry", "turn the pot once a week"),
    ("learn a new word", "read it aloud", "write a sentence with it", "use it the next day"),
    ("pack a suitcase", "make a list", "put the heavy things at the bottom", "roll the shirts"),
    ("make a fruit salad", "wash the fruit", "cut it into small pieces", "add the juice of a lemon"),
];

fn how_to(random: &mut Random) -> String {
    let (task, first, second, last) = random.pick(&TASKS);
    let ((name, ..), (friend, ..)) = random.pick_two(&NAMES);
    match random.index(4) {
        0 => format!("How to {task}: first {first}, then {second}, and finally {last}."),
        1 => format!("To {task}, {first}. After that, {second}. At the end, {last}."),
        2 => format!("\"How do I {task}?\" asks {name}. \"{}, {second}, and {last},\" says {friend}.", capital(first)),
        _ => format!("Question: What comes first when you {task}?\nAnswer: First you {first}; only then you {second}."),
    }
}

const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// (weather, what one does about it)
const WEATHER: [(&str, &str); 8] = [
    ("it rained hard", "took an umbrella"),
    ("the sun was hot", "wore a wide hat"),
    ("it snowed", "put on thick boots"),
    ("a cold wind blew from the north", "buttoned up a long coat"),
    ("thick fog lay over the fields", "walked slowly"),
    ("the sky was clear", "went by bicycle"),
    ("there was a thunderstorm", "waited under the bridge"),
    ("it was warm and still", "left the jacket at home"),
];

const ERRANDS: [(&str, &str); 10] = [
    ("went to the library", "borrowed two books about stars"),
    ("went to the market", "brought home a bag of beans"),
    ("visited an old teacher", "drank tea with her"),
    ("met a friend at the station", "talked about the summer"),
    ("went to the post office", "sent a parcel to an aunt"),
    ("walked to school", "swept the classroom"),
    ("went to the lake", "counted nine ducks"),
    ("went to the museum", "stood a long time before one painting"),
    ("climbed the hill behind the town", "saw the whole valley"),
    ("went to the bakery", "bought a loaf that was still warm"),
];

fn diary(random: &mut Random) -> String {
    let (day, (weather, answer)) = (random.pick(&DAYS), random.pick(&WEATHER));
    let ((name, pronoun, _), (errand, end)) = (random.pick(&NAMES), random.pick(&ERRANDS));
    match random.index(3) {
        0 => format!("On {day} {weather}, so {name} {answer}. In the afternoon {pronoun} {errand} and {end}."),
        1 => format!("{name} {errand} on {day}. Because {weather}, {pronoun} {answer}. Later {pronoun} {end}."),
        _ => format!("Dear diary, today is {day}. At noon {weather}, and I {answer}. Then I {errand} and {end}."),
    }
}

/// (more, most comparisons; things from least to most)
const SCALES: [(&str, [&str; 6]); 5] = [
    ("heavier", ["a mouse", "a rabbit", "a dog", "a sheep", "a horse", "an elephant"]),
    ("faster", ["a snail", "a walker", "a bicycle", "a car", "a train", "an aeroplane"]),
    ("bigger", ["a cherry", "a plum", "an orange", "a melon", "a pumpkin", "a house"]),
    ("longer", ["a second", "a minute", "an hour", "a day", "a week", "a year"]),
    ("hotter", ["ice", "cool water", "a warm bath", "fresh tea", "boiling water", "a flame"]),
];

fn comparison(random: &mut Random) -> String {
    let (more, things) = random.pick(&SCALES);
    let mut places = [0, 1, 2, 3, 4, 5];
    random.shuffle(&mut places);
    let mut three = [places[0], places[1], places[2]];
    three.sort_unstable();
    let [least, middle, most] = three.map(|place| things[place]);
    match random.index(4) {
        0 => format!("{} is {more} than {middle}, and {middle} is {more} than {least}.", capital(most)),
        1 => format!("Which is {more}, {least} or {most}? {} is {more}.", capital(most)),
        2 => format!("{} is {more} than {least}, but {most} is {more} still.", capital(middle)),
        _ => format!("{} is not {more} than {middle}. It is the other way round: {middle} is {more}.", capital(least)),
    }
}

const LOST: [&str; 10] = ["key", "scarf", "ticket", "notebook", "watch", "glove", "pen", "umbrella", "map", "ring"];

const WHERE: [&str; 10] = [
    "under the bed",
    "behind the sofa",
    "in the garden",
    "on the bus",
    "in a coat pocket",
    "beside the well",
    "on the kitchen table",
    "between two books",
    "at the bottom of a bag",
    "by the front door",
];

fn lost_and_found(random: &mut Random) -> String {
    let ((name, pronoun, possessive), (friend, ..)) = random.pick_two(&NAMES);
    let (thing, (first, second)) = (random.pick(&LOST), random.pick_two(&WHERE));
    match random.index(3) {
        0 => format!(
            "{name} lost {possessive} {thing}. {} looked {first}, but it was not there. {friend} found it {second}.",
            capital(pronoun)
        ),
        1 => format!("\"Have you seen my {thing}?\" asked {name}. \"Yes,\" said {friend}, \"it is {second}.\""),
        _ => format!(
            "{friend} found a {thing} {first} and asked whose it was. \"It is mine,\" said {name}, and {pronoun} thanked {friend}."
        ),
    }
}

/// (tool, what it is for, who uses it, where)
const TOOLS: [(&str, &str, &str, &str); 16] = [
    ("a hammer", "drive in nails", "a carpenter", "in the workshop"),
    ("a needle", "join pieces of cloth", "a tailor", "at the sewing table"),
    ("a telescope", "look at distant stars", "an astronomer", "on the roof"),
    ("a thermometer", "measure heat", "a nurse", "at the bedside"),
    ("a compass", "find north", "a sailor", "on the deck"),
    ("a spade", "dig the soil", "a gardener", "in the vegetable bed"),
    ("a whisk", "beat eggs", "a cook", "in the kitchen"),
    ("a ladder", "reach high places", "a painter", "against the wall"),
    ("a scale", "weigh things", "a grocer", "on the counter"),
    ("an abacus", "add up numbers", "a shopkeeper", "beside the till"),
    ("a brush", "write characters", "a calligrapher", "on the desk"),
    ("a net", "catch fish", "a fisherman", "in the boat"),
    ("a saw", "cut wood", "a joiner", "at the bench"),
    ("a loom", "weave cloth", "a weaver", "by the window"),
    ("a microscope", "see very small things", "a biologist", "in the laboratory"),
    ("a bellows", "blow air into the fire", "a blacksmith", "at the forge"),
];

fn tool(random: &mut Random) -> String {
    let (tool, purpose, user, place) = random.pick(&TOOLS);
    match random.index(4) {
        0 => format!("{} is used to {purpose}. You will find {tool} with {user} {place}.", capital(tool)),
        1 => format!("{} {place} needs {tool} to {purpose}.", capital(user)),
        2 => format!("Question: What is {tool} for?\nAnswer: It is for {user} who wants to {purpose}."),
        _ => format!("Look {place}: there is {tool}. With it {user} can {purpose}."),
    }
}
