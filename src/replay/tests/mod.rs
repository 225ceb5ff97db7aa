mod asked;
mod begun;
mod live;
mod odd;
mod rollouts;
mod scene;
mod scraped;
