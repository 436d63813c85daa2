//! Words of which names are made. All invented, or too common to mean anyone.

/// First names of customers.
pub const FIRST_NAMES: &[&str] = &[
    "Ada", "Adam", "Aisha", "Alba", "Alex", "Alma", "Amir", "Ana", "Anna", "Anton", "Aylin", "Ben", "Bo",
    "Carla", "Carlos", "Chen", "Clara", "Dana", "David", "Diego", "Ebru", "Elena", "Eli", "Ella", "Emil",
    "Emma", "Eva", "Fatima", "Felix", "Finn", "Greta", "Hana", "Hugo", "Ida", "Ines", "Ivan", "Jana", "Jin",
    "Jonas", "Julia", "Kai", "Kofi", "Lara", "Leo", "Lena", "Lin", "Louis", "Lucia", "Luka", "Maja", "Marco",
    "Maria", "Mateo", "Maya", "Mei", "Mia", "Milo", "Nadia", "Nia", "Nils", "Nina", "Noah", "Nora", "Olga",
    "Omar", "Oskar", "Paul", "Petra", "Pia", "Priya", "Rafael", "Ravi", "Rosa", "Sam", "Sara", "Selma",
    "Sofia", "Tara", "Theo", "Tomas", "Uma", "Vera", "Victor", "Wei", "Yara", "Yuki", "Zoe",
];

/// Family names of customers.
pub const LAST_NAMES: &[&str] = &[
    "Adler", "Ahmed", "Alvarez", "Andersen", "Baker", "Bauer", "Becker", "Berg", "Bianchi", "Brandt",
    "Brown", "Carter", "Castro", "Cohen", "Costa", "Dahl", "Demir", "Diaz", "Dubois", "Eriksen", "Farah",
    "Fischer", "Fuchs", "Garcia", "Gomez", "Gruber", "Haas", "Hansen", "Hoffmann", "Huber", "Ivanov",
    "Jansen", "Johnson", "Kaya", "Keller", "Kim", "Klein", "Kovac", "Kumar", "Lang", "Larsen", "Lee",
    "Lopez", "Maier", "Martin", "Mendes", "Meyer", "Moreau", "Moser", "Nagy", "Nguyen", "Novak", "Okafor",
    "Olsen", "Park", "Patel", "Pereira", "Petrov", "Popescu", "Reyes", "Ricci", "Rossi", "Roth", "Sato",
    "Schmid", "Silva", "Singh", "Smith", "Sousa", "Steiner", "Suzuki", "Tanaka", "Torres", "Vogel", "Wagner",
    "Walker", "Wang", "Weber", "Winkler", "Wolf", "Wong", "Yilmaz", "Young", "Zhang",
];

/// Cities and their countries.
pub const CITIES: &[(&str, &str)] = &[
    ("Vienna", "Austria"),
    ("Graz", "Austria"),
    ("Linz", "Austria"),
    ("Salzburg", "Austria"),
    ("Berlin", "Germany"),
    ("Hamburg", "Germany"),
    ("Munich", "Germany"),
    ("Cologne", "Germany"),
    ("Leipzig", "Germany"),
    ("Stuttgart", "Germany"),
    ("Zurich", "Switzerland"),
    ("Geneva", "Switzerland"),
    ("Basel", "Switzerland"),
    ("Paris", "France"),
    ("Lyon", "France"),
    ("Nantes", "France"),
    ("Toulouse", "France"),
    ("Madrid", "Spain"),
    ("Valencia", "Spain"),
    ("Seville", "Spain"),
    ("Lisbon", "Portugal"),
    ("Porto", "Portugal"),
    ("Rome", "Italy"),
    ("Milan", "Italy"),
    ("Turin", "Italy"),
    ("Amsterdam", "Netherlands"),
    ("Utrecht", "Netherlands"),
    ("Brussels", "Belgium"),
    ("Ghent", "Belgium"),
    ("Copenhagen", "Denmark"),
    ("Oslo", "Norway"),
    ("Stockholm", "Sweden"),
    ("Helsinki", "Finland"),
    ("Prague", "Czechia"),
    ("Brno", "Czechia"),
    ("Warsaw", "Poland"),
    ("Gdansk", "Poland"),
    ("Budapest", "Hungary"),
    ("Ljubljana", "Slovenia"),
    ("Zagreb", "Croatia"),
    ("London", "United Kingdom"),
    ("Leeds", "United Kingdom"),
    ("Dublin", "Ireland"),
    ("Athens", "Greece"),
];

/// Groups of customers, the most common first.
pub const SEGMENTS: &[&str] = &["consumer", "family", "student", "small business", "corporate"];
/// Steps of the loyalty programme, upwards.
pub const LOYALTY_TIERS: &[&str] = &["none", "bronze", "silver", "gold", "platinum"];

/// A category of products: its name, subcategories, nouns, and lowest and highest price in cents.
pub type Category = (&'static str, &'static [&'static str], &'static [&'static str], (i64, i64));

/// Categories of products.
pub const CATEGORIES: &[Category] = &[
    (
        "Electronics",
        &["Audio", "Computing", "Phones", "Cameras", "Wearables"],
        &["Headphones", "Laptop", "Phone", "Camera", "Watch", "Speaker", "Tablet", "Monitor"],
        (1_990, 189_900),
    ),
    (
        "Home & Kitchen",
        &["Cookware", "Appliances", "Bedding", "Lighting"],
        &["Pan", "Kettle", "Blender", "Lamp", "Duvet", "Toaster", "Mixer"],
        (990, 39_900),
    ),
    (
        "Furniture",
        &["Living Room", "Bedroom", "Office"],
        &["Chair", "Table", "Desk", "Shelf", "Sofa", "Wardrobe"],
        (3_990, 149_900),
    ),
    (
        "Clothing",
        &["Women", "Men", "Children", "Shoes", "Accessories"],
        &["Shirt", "Jacket", "Trousers", "Dress", "Sneakers", "Scarf", "Belt"],
        (790, 24_900),
    ),
    (
        "Beauty",
        &["Skin Care", "Hair Care", "Fragrance"],
        &["Cream", "Shampoo", "Serum", "Perfume", "Soap"],
        (290, 11_900),
    ),
    (
        "Sports",
        &["Fitness", "Outdoor", "Cycling", "Winter"],
        &["Mat", "Backpack", "Helmet", "Tent", "Skis", "Dumbbell", "Bottle"],
        (690, 79_900),
    ),
    (
        "Toys",
        &["Games", "Building", "Dolls", "Learning"],
        &["Puzzle", "Board Game", "Robot", "Doll", "Train", "Blocks"],
        (490, 14_900),
    ),
    (
        "Books",
        &["Fiction", "Science", "Cooking", "Travel"],
        &["Novel", "Atlas", "Cookbook", "Guide", "Biography", "Handbook"],
        (490, 5_990),
    ),
    (
        "Groceries",
        &["Coffee & Tea", "Snacks", "Pantry", "Drinks"],
        &["Coffee", "Tea", "Chocolate", "Pasta", "Olive Oil", "Juice", "Nuts"],
        (99, 3_490),
    ),
    (
        "Garden",
        &["Plants", "Tools", "Outdoor Living"],
        &["Planter", "Spade", "Hose", "Grill", "Parasol", "Seeds"],
        (290, 59_900),
    ),
    (
        "Pets",
        &["Dogs", "Cats", "Fish"],
        &["Basket", "Leash", "Toy", "Feeder", "Aquarium", "Treats"],
        (290, 19_900),
    ),
    (
        "Office",
        &["Paper", "Writing", "Storage"],
        &["Notebook", "Pen", "Folder", "Stapler", "Calendar", "Drawer"],
        (99, 8_990),
    ),
];

/// Brands.
pub const BRANDS: &[&str] = &[
    "Alpenrot",
    "Aurelia",
    "Bexley",
    "Birkholm",
    "Brisa",
    "Caldera",
    "Calypso",
    "Corvex",
    "Dunmore",
    "Elmwood",
    "Fjordline",
    "Fontana",
    "Galvano",
    "Harrow",
    "Helix",
    "Ivoris",
    "Juniper",
    "Kestrel",
    "Kuroda",
    "Larkspur",
    "Lumen",
    "Maris",
    "Meridian",
    "Mistral",
    "Nordvik",
    "Novaro",
    "Oakhurst",
    "Orbis",
    "Pallas",
    "Pinnacle",
    "Quanta",
    "Quill",
    "Rivona",
    "Rowan",
    "Sable",
    "Solano",
    "Stella",
    "Tamarack",
    "Tessera",
    "Umbra",
    "Valora",
    "Verdant",
    "Vesper",
    "Wexford",
    "Windrose",
    "Xenon",
    "Yarrow",
    "Zephyr",
];

/// What stands before a product's noun.
pub const ADJECTIVES: &[&str] = &[
    "Basic",
    "Bold",
    "Classic",
    "Comfort",
    "Compact",
    "Daily",
    "Deluxe",
    "Eco",
    "Essential",
    "Fresh",
    "Grand",
    "Light",
    "Modern",
    "Natural",
    "Original",
    "Premium",
    "Pro",
    "Pure",
    "Slim",
    "Smart",
    "Soft",
    "Studio",
    "Urban",
    "Vintage",
];

/// Colours of products.
pub const COLORS: &[&str] = &[
    "black", "white", "grey", "red", "blue", "green", "yellow", "brown", "beige", "silver", "pink", "orange",
];

/// What a seller's name ends with.
pub const SELLER_SUFFIXES: &[&str] =
    &["Trading", "Market", "Store", "Outlet", "Supply", "Goods", "Direct", "House"];
/// How well a seller is known, upwards.
pub const SELLER_TIERS: &[&str] = &["new", "standard", "trusted", "premium"];

/// Kinds of promotions.
pub const PROMOTION_TYPES: &[&str] =
    &["seasonal sale", "coupon", "clearance", "newsletter", "bundle", "loyalty"];

/// A way to pay: method, provider, online, fee in hundredths of a percent, share of orders.
pub type PaymentMethod = (&'static str, &'static str, bool, i64, u64);

/// Ways to pay.
pub const PAYMENT_METHODS: &[PaymentMethod] = &[
    ("credit card", "Cardia", true, 140, 240),
    ("credit card", "Maestra", true, 150, 180),
    ("credit card", "Amerigo", true, 220, 40),
    ("debit card", "Cardia", true, 60, 150),
    ("debit card", "Maestra", true, 65, 110),
    ("wallet", "PayPont", true, 190, 170),
    ("wallet", "Appel Pay", true, 120, 90),
    ("wallet", "Goggle Pay", true, 120, 60),
    ("bank transfer", "SEPA", true, 20, 55),
    ("direct debit", "SEPA", true, 35, 40),
    ("invoice", "Klarheit", true, 250, 80),
    ("instalments", "Klarheit", true, 310, 35),
    ("gift card", "own", true, 0, 20),
    ("voucher", "own", true, 0, 8),
    ("cash on delivery", "carrier", false, 180, 15),
    ("cash", "pick-up point", false, 0, 10),
    ("points", "own", true, 0, 7),
];
/// The gift card among them, which pays a part of an order.
pub const GIFT_CARD: usize = 12;
